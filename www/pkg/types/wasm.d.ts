/** The compiled engine, where the host or bundler turns a `.wasm` import into a module, or its address, where that is what it makes of one. */
declare const module: WebAssembly.Module & string;
export default module;
