//! Build steps that need a Rust library: wasm-bindgen bindings, component encoding.
//!
//! `build.sh wasm` calls both, so neither `wasm-bindgen` nor `wasm-tools` has to be installed: the
//! library versions are locked with everything else in `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;

/// Build steps that need a Rust library; `build.sh` calls them.
#[derive(Debug, Parser)]
#[command(version, about)]
enum Step {
    /// Write the JavaScript and TypeScript bindings of a wasm module (wasm-bindgen target `web`).
    Bindgen {
        /// The module that cargo built.
        #[arg(long)]
        input: PathBuf,
        /// Name of the bindings.
        #[arg(long)]
        name: String,
        /// Folder that receives `<name>.js`, `<name>.d.ts` and `<name>_bg.wasm`.
        #[arg(long)]
        out_dir: PathBuf,
        /// Keep the names of functions, for profilers.
        #[arg(long)]
        keep_names: bool,
    },
    /// Turn a core wasm module with embedded component types into a component.
    Component {
        /// The module that cargo built.
        #[arg(long)]
        input: PathBuf,
        /// The component to write.
        #[arg(long)]
        output: PathBuf,
    },
}

fn main() -> Result<()> {
    match Step::parse() {
        Step::Bindgen { input, name, out_dir, keep_names } => bindgen(&input, &name, &out_dir, keep_names),
        Step::Component { input, output } => component(&input, &output),
    }
}

fn bindgen(input: &Path, name: &str, out_dir: &Path, keep_names: bool) -> Result<()> {
    let mut output = wasm_bindgen_cli_support::Bindgen::new()
        .input_path(input)
        .out_name(name)
        .web(true)?
        .typescript(true)
        // What the npm package calls after a trap.
        .reset_state_function(true)
        .remove_name_section(!keep_names)
        .remove_producers_section(true)
        .generate_output()
        .with_context(|| format!("cannot make bindings of {}", input.display()))?;
    // For linkers; to a page it is a third of a kilobyte, as are the hashes in the names of imports. One for all of them stays, so that a
    // script and an engine of two releases do not link.
    output.wasm_mut().customs.remove_raw("target_features");
    let imports = &mut output.wasm_mut().imports;
    let renamed = without_hashes(imports.iter().map(|import| import.name.clone()).collect());
    let bindings_module = format!("wbg_{:016x}", hash_of(&renamed));
    let mut replaced: BTreeMap<String, String> = renamed.clone();
    for import in imports.iter_mut() {
        import.name.clone_from(&renamed[&import.name]);
        let module = std::mem::replace(&mut import.module, bindings_module.clone());
        replaced.insert(format!("\"{module}\""), format!("\"{bindings_module}\""));
    }
    output.emit(out_dir).with_context(|| format!("cannot write to {}", out_dir.display()))?;
    let script = out_dir.join(format!("{name}.js"));
    let bindings =
        std::fs::read_to_string(&script).with_context(|| format!("cannot read {}", script.display()))?;
    let bindings = replaced.iter().fold(bindings, |text, (long, short)| text.replace(long, short));
    std::fs::write(&script, bindings).with_context(|| format!("cannot write {}", script.display()))
}

fn hash_of(names: &BTreeMap<String, String>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    names.hash(&mut hasher);
    hasher.finish()
}

/// Names without the sixteen hexadecimal digits behind them; with a number, where an earlier one of the sorted names has become the same.
/// The builds of one engine import the same, so their names stay the same.
fn without_hashes(names: BTreeSet<String>) -> BTreeMap<String, String> {
    let is_hash = |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut taken: BTreeSet<String> = names.clone();
    let short = |name: String| {
        let Some((short, _)) = name.rsplit_once('_').filter(|(_, end)| is_hash(end)) else {
            return (name.clone(), name);
        };
        let numbered = (2..).map(|number| format!("{short}_{number}"));
        let free = std::iter::once(short.to_owned()).chain(numbered).find(|short| !taken.contains(short));
        let short = free.unwrap_or_else(|| name.clone());
        taken.insert(short.clone());
        (name, short)
    };
    names.into_iter().map(short).collect()
}

fn component(input: &Path, output: &Path) -> Result<()> {
    let module = std::fs::read(input).with_context(|| format!("cannot read {}", input.display()))?;
    let component = wit_component::ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.validate(true).encode())
        .with_context(|| format!("cannot make a component of {}", input.display()))?;
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    std::fs::write(output, component).with_context(|| format!("cannot write {}", output.display()))
}
