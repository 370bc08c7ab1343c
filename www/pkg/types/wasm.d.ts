/** The compiled engine, where the host or bundler turns a `.wasm` import into a module. */
declare const module: WebAssembly.Module;
export default module;
