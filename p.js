const max=Math.max,min=Math.min;
for(const [n,f] of Object.entries({abs_(){return Math.abs(this)},toInt(){return Math.trunc(this)},clamp(a,b){return Math.min(Math.max(this,a),b)},floor(){return Math.floor(this)}})) Number.prototype[n]=f;
Object.defineProperty(Number.prototype,'isEven',{get(){return this%2===0}});
Uint8Array.prototype.setRange=function(a,b,src,at=0){for(let i=a;i<b;i++)this[i]=src[at+i-a]};
const List_generate=(n,f)=>Array.from({length:n},(_,i)=>f(i));


class Picture_{constructor(w,h,b){this.width=w;this.height=h;this.data=b??new Uint8Array(3*w*h)}}
const Picture=(...a)=>new Picture_(...a);
class Plane{constructor(d,r,p){this.data=d;this.rowStride=r;this.pixelStride=p}
at(x,y,sample=0){return this.data[y * this.rowStride + x * this.pixelStride + sample]}}
const _precisionBits = 22;

const _Weights=(first,values)=>({first,values});
function _coefficients(size, target) {
  const scale = size / target;
  const width = max(scale, 1.0);
  return List_generate(target, (i) => {
    const centre = (i + 0.5) * scale;
    const first = max((centre - width + 0.5).toInt(), 0);
    const end = min((centre + width + 0.5).toInt(), size);
    const raw = Array.from({length:end-first},(_,k)=>{const x=first+k;return max(1 - ((x - centre + 0.5) * (1 / width)).abs_(), 0.0)});
    const sum = raw.reduce((a,b)=>a+b,0);
    return _Weights(first, raw.map((value)=>((sum != 0 ? value / sum : value) * (1 << _precisionBits) + 0.5).toInt()));
  });
}

function _level(sum, bits) { return (sum >> bits).clamp(0, 255); }

function resize(image, width, height) {
  const half = 1 << (_precisionBits - 1);
  let made = image;
  if (width != made.width) {
    const columns = _coefficients(made.width, width);
    const next = Picture(width, made.height);
    for (let y = 0; y < made.height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < 3; c++) {
          let sum = half;
          let at = 3 * (y * made.width + columns[x].first) + c;
          for (const weight of columns[x].values) {
            sum += made.data[at] * weight;
            at += 3;
          }
          next.data[3 * (y * width + x) + c] = _level(sum, _precisionBits);
        }
      }
    }
    made = next;
  }
  if (height != made.height) {
    const rows = _coefficients(made.height, height);
    const row = 3 * width;
    const next = Picture(width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < row; x++) {
        let sum = half;
        let at = rows[y].first * row + x;
        for (const weight of rows[y].values) {
          sum += made.data[at] * weight;
          at += row;
        }
        next.data[y * row + x] = _level(sum, _precisionBits);
      }
    }
    made = next;
  }
  return made;
}

function _window(image, left, top, width, height) {
  const made = Picture(width, height);
  for (let y = 0; y < height; y++) {
    const start = 3 * ((top + y) * image.width + left);
    made.data.setRange(3 * y * width, 3 * (y + 1) * width, image.data, start);
  }
  return made;
}

function _even(value) {
  const whole = value.floor();
  const rest = value - whole;
  if (rest == 0.5) return whole.isEven ? whole : whole + 1;
  return rest < 0.5 ? whole : whole + 1;
}

function fit(image, input) {
  const px = input.px;
  switch (input.fit) {
    case 'squash':
      return resize(image, px, px);
    case 'crop':
      const side = min(image.width, image.height);
      const left = Math.trunc(((image.width - side))/2);
      const top = Math.trunc(((image.height - side))/2);
      return resize(_window(image, left, top, side, side), px, px);
    case 'pad':
      return _padded(image, px);
    default:
      throw new Error(`input.fit is ${input.fit}, expected squash, crop or pad`);
  }
}

function _padded(image, px) {
  const longest = max(image.width, image.height);
  const width = max(1, _even(image.width * px / longest));
  const inner = resize(image, width, max(1, _even(image.height * px / longest)));
  const made = Picture(px, px);
  const top = Math.trunc(((px - inner.height))/2);
  const left = Math.trunc(((px - inner.width))/2);
  for (let y = 0; y < inner.height; y++) {
    const start = 3 * ((top + y) * px + left);
    made.data.setRange(start, start + 3 * inner.width, inner.data, 3 * y * inner.width);
  }
  return made;
}

function toCodes(image, input) {
  const count = image.width * image.height;
  const codes = new Uint8Array(count * input.channels);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < input.channels; c++) {
      const pixel = image.data[3 * i + (input.order == 'BGR' ? 2 - c : c)];
      const normalized = (pixel / 255 - input.mean[c]) / input.std[c];
      const code = _even(normalized / input.scale) + input.zeroPoint;
      codes[i * input.channels + c] = code.clamp(0, 255);
    }
  }
  return codes;
}


function upright(image, orientation) {
  const turned = orientation >= 5;
  const made =
      turned ? Picture(image.height, image.width) : Picture(image.width, image.height);
  const mirrored = [2, 3, 6, 7].includes(orientation);
  const flipped = [3, 4, 7, 8].includes(orientation);
  for (let y = 0; y < made.height; y++) {
    for (let x = 0; x < made.width; x++) {
      const column = mirrored ? made.width - 1 - x : x;
      const row = flipped ? made.height - 1 - y : y;
      const from = turned ? column * image.width + row : row * image.width + column;
      for (let c = 0; c < 3; c++) {
        made.data[3 * (y * made.width + x) + c] = image.data[3 * from + c];
      }
    }
  }
  return made;
}


function packed(plane, width, height, places, alpha) {
  const made = Picture(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const opaque = alpha == null ? 255 : plane.at(x, y, alpha);
      for (let c = 0; c < 3; c++) {
        const value = Math.trunc(((plane.at(x, y, places[c]) * opaque + 127))/255);
        made.data[3 * (y * width + x) + c] = value;
      }
    }
  }
  return made;
}


function yuv420(y, u, v, width, height) {
  const made = Picture(width, height);
  for (let row = 0; row < height; row++) {
    for (let x = 0; x < width; x++) {
      const luma = (y.at(x, row) << 16) + (1 << 15);
      const blue = u.at(Math.trunc((x)/2), Math.trunc((row)/2)) - 128;
      const red = v.at(Math.trunc((x)/2), Math.trunc((row)/2)) - 128;
      const at = 3 * (row * width + x);
      made.data[at] = _level(luma + 91881 * red, 16);
      made.data[at + 1] = _level(luma - 22554 * blue - 46802 * red, 16);
      made.data[at + 2] = _level(luma + 116130 * blue, 16);
    }
  }
  return made;
}

const {readFileSync}=require('fs');const d=JSON.parse(readFileSync('/tmp/apps/b/samples/preprocess_vectors.json'));
let bad=0;
for(const v of d.vectors){const P=v.planes.map(p=>new Plane(new Uint8Array(Buffer.from(p.data,'base64')),p.row_stride,p.pixel_stride));
const places={grey:[0,0,0],rgb:[0,1,2],rgba:[0,1,2],bgrx:[2,1,0]}[v.format];
const st=v.format==='yuv_420'?yuv420(...P,v.width,v.height):packed(P[0],v.width,v.height,places,v.format==='rgba'?3:null);
const inp={...v.input,width:v.input.px,height:v.input.px,zeroPoint:v.input.zero_point};
const got=toCodes(fit(upright(st,v.orientation),inp),inp);const e=Buffer.from(v.expected,'base64');
if(got.length!==e.length||got.some((x,i)=>x!==e[i])){bad++;console.log('BAD',v.name)}}
console.log(d.vectors.length-bad,'of',d.vectors.length);
