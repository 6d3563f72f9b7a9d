"""One transformation a file: typed artifacts in, a typed artifact out. Stages never import each other."""
