//! The classes `WasmEngine` and `WasmFiles`.

use js_sys::{Array, Float32Array, Uint32Array};
use sanderling_core::{Bundle, BundleFiles, Engine, Outcome, SessionMemory, Telemetry, Trust};
use sanderling_types::{
    Code, Correction, Error, FORMAT_VERSION, ItemId, ItemIndex, Manifest, Request, Sha256Hash,
};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::convert::{fixed, from_js, integer, json_text, public_keys, to_js};
use crate::error::{thrown, wrong_argument};

#[cfg(feature = "full")]
const RUNTIME: sanderling_tract::FullRuntime = sanderling_tract::FullRuntime;
#[cfg(not(feature = "full"))]
const RUNTIME: sanderling_core::SlimRuntime = sanderling_core::SlimRuntime;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds of a clock that never goes back; every host of wasm has it.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// The files of a bundle, until an engine is made of them. They come one by one, because a record of them would have to be taken apart
/// here, in code that a page has to compile before its first list.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct WasmFiles(BundleFiles);

#[wasm_bindgen]
impl WasmFiles {
    /// No file yet.
    #[must_use]
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file. `digest` is the SHA-256 that the host computed of the same bytes, of their pieces where the manifest has
    /// `pieces_sha256`; a file without one is hashed here.
    ///
    /// # Errors
    /// `invalid_argument` for a digest that is not of 32 bytes.
    pub fn add(&mut self, name: &str, bytes: Vec<u8>, digest: Option<Vec<u8>>) -> Result<(), JsValue> {
        let digest = digest.map(|digest| fixed("a digest", &digest)).transpose()?;
        self.0.insert(name, bytes);
        if let Some(digest) = digest {
            self.0.set_digest(name, Sha256Hash::from_digest(digest));
        }
        Ok(())
    }
}

/// One loaded bundle with its telemetry.
#[wasm_bindgen]
#[derive(Debug)]
pub struct WasmEngine {
    engine: Engine,
    /// As it was signed, for the host, so that nothing has to be written again before the first list.
    manifest: String,
    memory: SessionMemory,
    telemetry: Telemetry,
    /// The newest list, until it taught a correction.
    shown: Outcome,
}

#[wasm_bindgen]
impl WasmEngine {
    /// Opens a bundle: `keys` are public keys of 32 bytes, one behind the other, of which one must have signed it, and `now` are Unix
    /// seconds, see `sanderling_core::Trust`. A `least_rollback_index` below 0 is as little as 0.
    ///
    /// # Errors
    /// `invalid_argument` for keys that are not whole and for what is no number, and every code of opening a bundle and loading its models.
    #[wasm_bindgen(constructor)]
    pub fn new(
        files: WasmFiles,
        keys: &[u8],
        now: f64,
        #[wasm_bindgen(js_name = leastRollbackIndex)] least_rollback_index: f64,
    ) -> Result<WasmEngine, JsValue> {
        // Neither would ask for anything.
        if now.is_nan() || least_rollback_index.is_nan() {
            return Err(thrown(&wrong_argument(
                "the time or the rollback index",
                "a value that is no number",
            )));
        }
        let trust = Trust {
            keys: public_keys(keys)?,
            now: Some(now as i64),
            least_rollback_index: least_rollback_index as u64,
        };
        let manifest = files.0.get(Manifest::FILE_NAME).unwrap_or_default().to_vec();
        let bundle = Bundle::open(files.0, Some(&trust)).map_err(|error| thrown(&error))?;
        let telemetry = Telemetry::new(bundle.baseline(), &bundle.manifest().telemetry, bundle.hash());
        let engine = Engine::new(bundle, &RUNTIME).map_err(|error| thrown(&error))?;
        // It was JSON.
        let manifest = String::from_utf8(manifest).unwrap_or_default();
        Ok(Self { engine, manifest, memory: SessionMemory::default(), telemetry, shown: Outcome::default() })
    }

    /// The manifest.
    ///
    /// # Errors
    /// None in practice: a manifest always converts.
    pub fn manifest(&self) -> Result<JsValue, JsValue> {
        js_sys::JSON::parse(&self.manifest)
    }

    /// The bundle hash as 64 hex digits.
    #[must_use]
    #[wasm_bindgen(js_name = bundleHash)]
    pub fn bundle_hash(&self) -> String {
        self.engine.bundle().hash().to_string()
    }

    /// Whether the bundle knows an item.
    #[must_use]
    #[wasm_bindgen(js_name = hasItem)]
    pub fn has_item(&self, id: String) -> bool {
        self.engine.bundle().item_index(&ItemId(id)).is_some()
    }

    /// Number of items.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.engine.bundle().vocabulary().len()
    }

    /// Recommends and counts what was shown. A request without `now` is one of this moment.
    ///
    /// # Errors
    /// `invalid_argument` for a request of another shape; nothing else is ever thrown.
    pub fn recommend(&mut self, request: &JsValue) -> Result<JsValue, JsValue> {
        let text = json_text("the request", request)?;
        // Seconds of a clock are far inside an i64.
        let now = (js_sys::Date::now() / 1000.0) as i64;
        let request = Request::decode(text.as_bytes(), now, 0).map_err(|error| thrown(&error))?;
        let start = if request.deadline_ms.is_some() { performance_now() } else { 0.0 };
        let elapsed_ms = || performance_now() - start;
        let outcome = self.engine.recommend_timed(&request, &mut self.memory, &elapsed_ms);
        self.telemetry.record(&outcome);
        self.shown = outcome;
        to_js(&self.shown.response)
    }

    /// Rows of items, for [`WasmEngine::retrieve`].
    ///
    /// # Errors
    /// `unknown_item`; `invalid_argument` for a value that is no list of texts.
    pub fn rows(&self, #[wasm_bindgen(js_name = itemIds)] item_ids: &JsValue) -> Result<Vec<u32>, JsValue> {
        let ids: Vec<ItemId> = from_js("itemIds", item_ids)?;
        let row = |id: &ItemId| {
            let unknown = || Error::new(Code::UnknownItem, "the item is not in this bundle").found(id);
            let item = self.engine.bundle().item_index(id).ok_or_else(unknown);
            item.map(|item| item.0).map_err(|error| thrown(&error))
        };
        ids.iter().map(row).collect()
    }

    /// The id of a row; `undefined` for one out of range.
    #[must_use]
    #[wasm_bindgen(js_name = itemId)]
    pub fn item_id(&self, row: u32) -> Option<String> {
        self.engine.bundle().item_id(ItemIndex(row)).map(str::to_owned)
    }

    /// Encoder and scan alone: the rows of the best `limit` items for a session of rows, oldest first, and their
    /// scores, as a `Uint32Array` and a `Float32Array`.
    ///
    /// # Errors
    /// `invalid_argument` for an empty session or a row out of range, `inference_failed`.
    pub fn retrieve(&mut self, session: &[u32], limit: u32) -> Result<Array, JsValue> {
        let session: Vec<ItemIndex> = session.iter().copied().map(ItemIndex).collect();
        let found = self.engine.encode_and_retrieve(&session, limit as usize, &mut self.memory);
        let found = found.map_err(|error| thrown(&error))?;
        let rows: Vec<u32> = found.iter().map(|candidate| candidate.item.0).collect();
        let scores: Vec<f32> = found.iter().map(|candidate| candidate.score).collect();
        let (rows, scores) = (Uint32Array::from(rows.as_slice()), Float32Array::from(scores.as_slice()));
        Ok(Array::of2(&rows, &scores))
    }

    /// The ranker alone: scores of feature rows, as many as the bundle's `num_features` divide.
    ///
    /// # Errors
    /// `invalid_argument` for rows that are not whole, `inference_failed`.
    pub fn rank(&self, features: &[f32]) -> Result<Vec<f32>, JsValue> {
        let num_rows = features.len() / self.engine.feature_encoder().num_features();
        self.engine.rank(features, num_rows).map_err(|error| thrown(&error))
    }

    /// The items most similar to one.
    ///
    /// # Errors
    /// `unknown_item`.
    pub fn similar(
        &self,
        #[wasm_bindgen(js_name = itemId)] item_id: String,
        limit: u32,
    ) -> Result<JsValue, JsValue> {
        let listed = self.engine.similar(&ItemId(item_id), limit).map_err(|error| thrown(&error))?;
        to_js(&listed)
    }

    /// Counts an interaction; of an item that the bundle does not know, that it is unknown.
    #[wasm_bindgen(js_name = recordInteraction)]
    pub fn record_interaction(&mut self, #[wasm_bindgen(js_name = itemId)] item_id: String) {
        self.telemetry.record_interaction(self.engine.bundle(), &ItemId(item_id));
    }

    /// Counts how long a list took to make, in milliseconds.
    #[wasm_bindgen(js_name = recordLatency)]
    pub fn record_latency(&mut self, milliseconds: f32) {
        self.telemetry.record_latency(milliseconds);
    }

    /// Counts what became of a list: nothing, or the 1-based position of the item that was chosen.
    #[wasm_bindgen(js_name = recordOutcome)]
    pub fn record_outcome(&mut self, position: Option<u32>) {
        self.telemetry.record_outcome(position);
    }

    /// A user's correction once the item at the 1-based `position` of the newest list was chosen: its sums and then its number of updates,
    /// in and out. What does not fit the bundle's features, such as nothing at all, is begun anew. A list teaches once.
    pub fn learn(&mut self, learned: &[f32], position: u32) -> Vec<f32> {
        let correction = learned.split_last().map(|(num_updates, sums)| Correction {
            format_version: FORMAT_VERSION,
            feature_spec_sha256: self.engine.bundle().manifest().feature_spec_sha256,
            num_updates: *num_updates as u32,
            sums: sums.to_vec(),
        });
        let next = self.engine.learn(correction, &std::mem::take(&mut self.shown), position);
        let mut out = next.sums;
        out.push(next.num_updates as f32);
        out
    }

    /// Everything that telemetry remembers, for the host to store on the device.
    ///
    /// # Errors
    /// None in practice: a state always converts.
    #[wasm_bindgen(js_name = telemetryState)]
    pub fn telemetry_state(&self) -> Result<JsValue, JsValue> {
        to_js(&self.telemetry.state())
    }

    /// Takes back what [`WasmEngine::telemetry_state`] gave.
    ///
    /// # Errors
    /// `invalid_argument` or `unsupported_format_version`; nothing is changed then.
    #[wasm_bindgen(js_name = restoreTelemetry)]
    pub fn restore_telemetry(&mut self, state: &JsValue) -> Result<(), JsValue> {
        let state = from_js("the telemetry state", state)?;
        self.telemetry.restore(state).map_err(|error| thrown(&error))
    }

    /// Forgets every count, the session that was encoded last, and the newest list.
    #[wasm_bindgen(js_name = clearTelemetry)]
    pub fn clear_telemetry(&mut self) {
        self.memory = SessionMemory::default();
        self.shown = Outcome::default();
        self.telemetry.clear();
    }

    /// The report of a window as the bytes that are sent.
    ///
    /// # Errors
    /// `invalid_argument` or `report_too_large`.
    #[wasm_bindgen(js_name = buildReport)]
    pub fn build_report(
        &self,
        #[wasm_bindgen(js_name = windowStart)] window_start: &JsValue,
        seed: &[u8],
        #[wasm_bindgen(js_name = reportId)] report_id: &[u8],
    ) -> Result<Vec<u8>, JsValue> {
        let window_start = integer("windowStart", window_start)?;
        let (seed, report_id) = (fixed("the seed", seed)?, fixed("the report id", report_id)?);
        let report =
            self.telemetry.build_report(window_start, seed, report_id).map_err(|error| thrown(&error))?;
        Ok(report.encode())
    }

    /// Runs one conformance operation, for tests, as `sanderling_core::operations` describes.
    ///
    /// # Errors
    /// `invalid_argument` for a value that is not JSON; errors of the operation are in the result.
    #[cfg(feature = "operations")]
    #[wasm_bindgen(js_name = runOperation)]
    pub fn run_operation(&self, operation: &JsValue) -> Result<JsValue, JsValue> {
        let operation = json_text("the operation", operation)?;
        js_sys::JSON::parse(&sanderling_core::operations::run(&self.engine, &operation))
    }
}
