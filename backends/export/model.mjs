// A WebAssembly library that graphc wrote, for browsers and node; this file is the same for all of them.
//
//   import { load } from "./mnist.mjs";
//   const model = await load();                          // the .wasm file beside this one, or load(url), load(bytes)
//   const { loss } = model.step(x, y);                   // typed arrays, row by row; every function of the library
//   model.step.set({ lr: 0.05 });                        // run-time settings
//   const means = model.step.epoch(x, y, { batch: 64 }); // every batch of a data set; order: rows in another order
//   const bytes = model.save();                          // the whole state; model.load(bytes) takes it back

const ARRAYS = {
  f32: Float32Array, f64: Float64Array, i32: Int32Array, i64: BigInt64Array, u8: Uint8Array, bool: Uint8Array,
};
const NUMBERS = {
  float: ["Float32", 4], double: ["Float64", 8], int32_t: ["Int32", 4], int64_t: ["BigInt64", 8], uint8_t: ["Uint8", 1],
};
const ALIGNMENT = 64;

// What a function of the library refused; nothing was changed.
export class LibraryError extends Error {
  name = "LibraryError";
}

// source  bytes, a compiled module, or an address; none: the .wasm file beside this one
// seed    of the first numbers: those that Python draws after gx.manual_seed(seed)
export async function load(source, { seed = 0 } = {}) {
  const module = source instanceof WebAssembly.Module ? source : await WebAssembly.compile(await bytesOf(source));
  return new Model(await WebAssembly.instantiate(module, {}), seed);
}

async function bytesOf(source) {
  if (ArrayBuffer.isView(source) || source instanceof ArrayBuffer) return source;
  const here = import.meta.url;
  const address = new URL(source ?? here.replace(/\.mjs(?=$|[?#])/, ".wasm"), here);
  if (address.protocol === "file:") return (await import("node:fs/promises")).readFile(address);
  const answer = await fetch(address);
  if (!answer.ok) throw new LibraryError(`${address} cannot be read: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
}

// A state of the library. Its functions are in `functions`, and properties where their names are free.
export class Model {
  constructor(instance, seed) {
    this.native = instance.exports;
    const named = Object.keys(this.native).filter((name) => name.endsWith("_manifest"));
    this.prefix = named.sort((one, other) => one.length - other.length)[0].slice(0, -"manifest".length);
    this.manifest = JSON.parse(this.textAt(this.call("manifest")));
    const state = up(this.native.__heap_base.value);
    this.places = { state, work: up(state + this.manifest.state_bytes) };
    this.scratch = up(this.places.work + Number(this.call("work_bytes", 1)));
    this.reserve(this.scratch);
    this.init(seed);
    this.functions = Object.fromEntries(this.manifest.functions.map((known) => [known.name, functionOf(this, known)]));
    for (const [name, run] of Object.entries(this.functions)) if (!(name in this)) this[name] = run;
  }

  // First numbers, anew.
  init(seed) {
    this.check(this.call("init", this.places.state, BigInt.asUintN(64, BigInt(seed))));
  }

  // 64 bits that differ where any number of the state does.
  stateHash() {
    return BigInt.asUintN(64, this.call("state_hash", this.places.state));
  }

  // The whole state as one block: the same bytes as from C and from Python.
  save() {
    return this.bytes(this.places.state, this.manifest.state_bytes).slice();
  }

  // A block that was saved. Throws, before anything changes, for one of another model.
  load(block) {
    const size = this.manifest.state_bytes;
    if (block.length !== size) {
      throw new LibraryError(`a state of ${this.manifest.name} has ${size} bytes, given are ${block.length}`);
    }
    const [place] = this.room([size]);
    this.bytes(place, size).set(block);
    this.check(this.call("check", place));
    this.bytes(this.places.state, size).set(block);
  }

  // Copies of all states, by name.
  stateDict() {
    return Object.fromEntries(this.manifest.states.map((each) => {
      const count = each.shape.reduce((product, extent) => product * extent, 1);
      return [each.name, new ARRAYS[each.dtype](this.memory, this.places.state + each.offset, count).slice()];
    }));
  }

  // All that trains, flat.
  parameters() {
    const [place, Kind] = this.flat();
    this.check(this.call("get_parameters", this.places.state, place));
    return new Kind(this.memory, place, this.manifest.parameters).slice();
  }

  setParameters(numbers) {
    const [place, Kind] = this.flat();
    if (numbers.length !== this.manifest.parameters) {
      throw new LibraryError(`there are ${this.manifest.parameters} parameters, given are ${numbers.length}`);
    }
    new Kind(this.memory, place, numbers.length).set(numbers);
    this.check(this.call("set_parameters", this.places.state, place));
  }

  flat() {
    if (!this.manifest.parameters) throw new LibraryError("the parameters are not of one dtype: use stateDict()");
    const Kind = ARRAYS[this.manifest.states.find((each) => each.trains).dtype];
    const [place] = this.room([Kind.BYTES_PER_ELEMENT * this.manifest.parameters]);
    return [place, Kind];
  }

  // The order in which a DataLoader of that seed has so many rows in that epoch.
  shuffle(samples, seed, epoch) {
    const [place] = this.room([8 * (samples || 1)]);
    this.check(this.call("shuffle", place, BigInt(samples), BigInt.asUintN(64, BigInt(seed)), BigInt(epoch)));
    return new BigInt64Array(this.memory, place, samples).slice();
  }

  // -- memory

  get memory() {
    return this.native.memory.buffer;
  }

  bytes(place, size) {
    return new Uint8Array(this.memory, place, size);
  }

  // Memory up to there; what was viewed before must be viewed anew.
  reserve(end) {
    const missing = end - this.memory.byteLength;
    if (missing > 0) this.native.memory.grow(Math.ceil(missing / 65536));
  }

  // Places for so many bytes each, until the next call.
  room(sizes) {
    let end = this.scratch;
    const places = sizes.map((size) => {
      const place = end;
      end = up(end + size);
      return place;
    });
    this.reserve(end);
    return places;
  }

  // -- calls

  call(name, ...rest) {
    return this.native[this.prefix + name](...rest);
  }

  check(status) {
    if (status) throw new LibraryError(this.textAt(this.call("strerror", status)));
  }

  textAt(place) {
    const bytes = new Uint8Array(this.memory, place);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }
}

// One function of the library on one model's state, with its `epoch` and `set`.
function functionOf(model, known) {
  const settings = Object.fromEntries(known.settings.map((each) => [each.name, each.value]));

  // One batch: {name: number or array}. The last argument may be {sizes: {name: extent}}, where the lengths of the
  // arrays do not tell all of them.
  function run(...given) {
    const [arrays, { sizes: told = {} }] = apart(known, given);
    const sizes = sizesOf(known, arrays, told);
    const outputs = known.arrays.map((each) => [each, ARRAYS[each.dtype], count(each.shape, sizes)]);
    const room = model.room([
      ...arrays.map((array, index) => array.length * ARRAYS[known.inputs[index].dtype].BYTES_PER_ELEMENT),
      ...outputs.map(([, Kind, length]) => length * Kind.BYTES_PER_ELEMENT),
      width(known.settings), width(known.numbers),
    ]);
    const numbers = room.pop(), slots = room.pop();
    write(model, known, arrays, room);
    model.check(model.call(
      known.name, model.places.state, model.places.work, ...room.slice(0, arrays.length),
      ...known.sizes.map((each) => BigInt(sizes[each.dim])), ...room.slice(arrays.length),
      ...set(model, known.settings, settings, slots), ...(known.numbers.length ? [numbers] : []), 0, 1,
    ));
    const results = read(model, known.numbers, numbers);
    for (const [index, [each, Kind, length]] of outputs.entries()) {
      results[each.name] = new Kind(model.memory, room[arrays.length + index], length).slice();
    }
    return results;
  }

  // Every batch of a data set, the last one as small as it is: means over samples.
  run.epoch = (...given) => {
    const [arrays, { batch, order = null }] = apart(known, given);
    if (!known.epoch) throw new LibraryError(`${known.name} has no epoch`);
    if (!Number.isInteger(batch)) throw new LibraryError(`${known.name}.epoch: the last argument is {batch: rows}`);
    const { [known.sizes[0].dim]: samples } = sizesOf(known, arrays, {});
    if (order !== null && order.length !== samples) {
      throw new LibraryError(`${known.name}: the order has ${order.length} rows, the arrays ${samples}`);
    }
    const means = [...known.numbers.map((each, index) => ({ name: each.name, type: "double", offset: 8 * index })),
      { name: "steps", type: "int64_t", offset: 8 * known.numbers.length }];
    const room = model.room([
      ...arrays.map((array, index) => array.length * ARRAYS[known.inputs[index].dtype].BYTES_PER_ELEMENT),
      order === null ? 0 : 8 * samples, width(known.settings), width(means),
    ]);
    const told = room.pop(), slots = room.pop(), rows = room.pop();
    write(model, known, arrays, room);
    if (order !== null) fill(new BigInt64Array(model.memory, rows, samples), order);
    model.check(model.call(
      `${known.name}_epoch`, model.places.state, model.places.work, ...room, BigInt(samples), BigInt(batch),
      order === null ? 0 : rows, ...set(model, known.settings, settings, slots), told, 0, 1,
    ));
    return read(model, means, told);
  };

  // New values of run-time settings.
  run.set = (values) => {
    for (const name of Object.keys(values)) {
      if (!(name in settings)) throw new LibraryError(`${known.name} has no setting ${name}`);
    }
    Object.assign(settings, values);
    return run;
  };
  return run;
}

// The arrays that are given, and the options behind them.
function apart(known, given) {
  const wanted = known.inputs.length;
  if (given.length < wanted || given.length > wanted + 1 || given.slice(0, wanted).some((each) => !hasLength(each))) {
    const names = known.inputs.map((each) => each.name).join(", ");
    throw new LibraryError(`${known.name} takes ${wanted} arrays: ${names}`);
  }
  return [given.slice(0, wanted), given[wanted] ?? {}];
}

function hasLength(array) {
  return Array.isArray(array) || (ArrayBuffer.isView(array) && "length" in array);
}

// The extent of every dim, as the lengths of the arrays have it. Throws where they do not fit.
function sizesOf(known, arrays, told) {
  const sizes = { ...told };
  for (let before = -1; before !== Object.keys(sizes).length;) {
    before = Object.keys(sizes).length;
    known.inputs.forEach(({ shape }, index) => {
      const unknown = shape.filter((extent) => known.sizes.some(({ dim }) => dim === extent && !(dim in sizes)));
      if (unknown.length !== 1) return;
      const others = shape.filter((extent) => extent !== unknown[0]);
      if (others.some((extent) => Number.isNaN(value(extent, sizes)))) return;
      sizes[unknown[0]] = arrays[index].length / count(others, sizes);
    });
  }
  const missing = known.sizes.filter(({ dim }) => !(dim in sizes)).map(({ dim }) => dim);
  if (missing.length) {
    const example = missing.map((dim) => `${dim}: …`).join(", ");
    throw new LibraryError(`${known.name}: the arrays do not tell all sizes; end with {sizes: {${example}}}`);
  }
  known.inputs.forEach(({ name, shape }, index) => {
    const fits = arrays[index].length === count(shape, sizes);
    if (!fits || Object.values(sizes).some((size) => !Number.isInteger(size))) {
      throw new LibraryError(`${known.name}: ${name} has ${arrays[index].length} numbers, expected [${shape.join(", ")}]`);
    }
  });
  return sizes;
}

function count(shape, sizes) {
  return shape.reduce((product, extent) => product * value(extent, sizes), 1);
}

// An extent: a number, or a sum of products of dims such as 2*batch*time-1. NaN where a dim is not known.
function value(extent, sizes) {
  if (typeof extent === "number") return extent;
  const terms = extent.match(/[+-]?[^+-]+/g);
  return terms.reduce((sum, term) => {
    const factors = term.replace(/^[+-]/, "").split("*");
    const product = factors.reduce((all, each) => all * (/^\d+$/.test(each) ? Number(each) : sizes[each] ?? NaN), 1);
    return sum + (term.startsWith("-") ? -product : product);
  }, 0);
}

function write(model, known, arrays, places) {
  known.inputs.forEach(({ dtype }, index) => {
    fill(new ARRAYS[dtype](model.memory, places[index], arrays[index].length), arrays[index]);
  });
}

// The numbers of any array, whole ones for 64 bits also from plain numbers.
function fill(target, source) {
  const wide = (array) => array instanceof BigInt64Array || array instanceof BigUint64Array;
  if (wide(target) === wide(source) && (!Array.isArray(source) || !wide(target))) return target.set(source);
  const convert = wide(target) ? BigInt : Number;
  for (let index = 0; index < source.length; index++) target[index] = convert(source[index]);
}

// Writes the settings, if there are any; returns what a call is told of them.
function set(model, fields, values, place) {
  if (!fields.length) return [];
  const view = new DataView(model.memory);
  for (const { name, type, offset } of fields) {
    const number = type === "int64_t" ? BigInt(values[name]) : values[name];
    view[`set${NUMBERS[type][0]}`](place + offset, number, true);
  }
  return [place];
}

function read(model, fields, place) {
  const view = new DataView(model.memory);
  return Object.fromEntries(fields.map(({ name, type, offset }) => {
    const number = view[`get${NUMBERS[type][0]}`](place + offset, true);
    return [name, Number(number)];
  }));
}

// Bytes of a structure.
function width(fields) {
  return Math.max(0, ...fields.map(({ type, offset }) => offset + NUMBERS[type][1]));
}

function up(place) {
  return Math.ceil(place / ALIGNMENT) * ALIGNMENT;
}
