// A reader of JSON that is large enough for the bundle's own files.
#ifndef EDGEKD_JSON_H_
#define EDGEKD_JSON_H_

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace edgekd {

// A JSON value. Only the member of its own kind is filled in; true is the number 1.
struct Json {
  double number = 0;
  std::string text;
  std::vector<Json> items;
  std::map<std::string, Json> fields;

  bool Has(const std::string& name) const { return fields.count(name) > 0; }
  const Json& operator[](const std::string& name) const {
    const auto found = fields.find(name);
    if (found == fields.end()) throw std::runtime_error("the field " + name + " is missing");
    return found->second;
  }
  int Int() const { return static_cast<int>(number); }
  std::vector<double> Numbers() const {
    std::vector<double> all;
    for (const Json& item : items) all.push_back(item.number);
    return all;
  }
};

class JsonParser {
 public:
  explicit JsonParser(const std::string& text) : text_(text) {}

  Json Whole() {
    Json value = Value();
    Skip();
    if (at_ != text_.size()) Fail();
    return value;
  }

 private:
  [[noreturn]] void Fail() const {
    throw std::runtime_error("not JSON at byte " + std::to_string(at_));
  }
  void Skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  char Peek() {
    Skip();
    if (at_ >= text_.size()) Fail();
    return text_[at_];
  }
  void Take(char wanted) {
    if (Peek() != wanted) Fail();
    ++at_;
  }
  void Word(const std::string& word) {
    if (text_.compare(at_, word.size(), word) != 0) Fail();
    at_ += word.size();
  }

  Json Value() {
    Json value;
    switch (Peek()) {
      case '{': Fields(value); break;
      case '[': Items(value); break;
      case '"': value.text = String(); break;
      case 't': Word("true"); value.number = 1; break;
      case 'f': Word("false"); break;
      case 'n': Word("null"); break;
      default: value.number = Number();
    }
    return value;
  }

  void Fields(Json& value) {
    Take('{');
    while (Peek() != '}') {
      const std::string name = String();
      Take(':');
      value.fields[name] = Value();
      if (Peek() != '}') Take(',');
    }
    Take('}');
  }

  void Items(Json& value) {
    Take('[');
    while (Peek() != ']') {
      value.items.push_back(Value());
      if (Peek() != ']') Take(',');
    }
    Take(']');
  }

  double Number() {
    const char* begin = text_.c_str() + at_;
    char* end = nullptr;
    const double value = std::strtod(begin, &end);
    if (end == begin) Fail();
    at_ += static_cast<size_t>(end - begin);
    return value;
  }

  std::string String() {
    Take('"');
    std::string made;
    while (at_ < text_.size() && text_[at_] != '"') {
      char c = text_[at_++];
      if (c == '\\') {
        if (at_ >= text_.size()) Fail();
        c = text_[at_++];
        if (c == 'u') {
          Utf8(made, Hex4());
          continue;
        }
        const std::string from = "bfnrt", to = "\b\f\n\r\t";
        const size_t place = from.find(c);
        if (place != std::string::npos) c = to[place];
      }
      made += c;
    }
    Take('"');
    return made;
  }

  unsigned Hex4() {
    if (at_ + 4 > text_.size()) Fail();
    const unsigned code = std::stoul(text_.substr(at_, 4), nullptr, 16);
    at_ += 4;
    return code;
  }

  void Utf8(std::string& made, unsigned code) {
    if (code >= 0xD800 && code < 0xDC00 && text_.compare(at_, 2, "\\u") == 0) {
      at_ += 2;
      code = 0x10000 + ((code - 0xD800) << 10) + (Hex4() - 0xDC00);
    }
    if (code < 0x80) {
      made += static_cast<char>(code);
      return;
    }
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr unsigned kLead[] = {0, 0xC0, 0xE0, 0xF0};
    made += static_cast<char>(kLead[more] | code >> 6 * more);
    for (int k = more - 1; k >= 0; --k) made += static_cast<char>(0x80 | (code >> 6 * k & 0x3F));
  }

  const std::string& text_;
  size_t at_ = 0;
};

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline Json ReadJson(const std::string& path) {
  const std::string text = ReadFile(path);
  try {
    return JsonParser(text).Whole();
  } catch (const std::exception& error) {
    throw std::runtime_error(path + ": " + error.what());
  }
}

}  // namespace edgekd

#endif  // EDGEKD_JSON_H_
