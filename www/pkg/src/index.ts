/** What every entry file shares: everything but `Recommender`, which knows its platform. */
export { RecommenderError, type ErrorCode, type ErrorDetails } from './errors.js';
export { MemoryStorage, type DeviceStorage } from './storage.js';
export { IndexedDbStorage } from './indexed-db.js';
export type { Engine, Json } from './engine.js';
export type { Companion, RecommenderBase } from './recommender.js';
export type { WorkerLoadOptions, WorkerRecommender } from './worker-client.js';
export type { Telemetry } from './telemetry.js';
export type { TelemetryFieldName } from './telemetry-fields.js';
export type * from './types.js';
