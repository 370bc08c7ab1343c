// Made from docs/formats/telemetry-fields.json, which says how to make it again.

/** Every field that a report can answer. */
export type TelemetryFieldName =
  | `feature.${string}`
  | 'score.retrieval'
  | 'score.ranker'
  | 'score.first'
  | 'interaction.category'
  | 'transition.category'
  | 'interaction.item'
  | 'impression.source'
  | 'outcome.position'
  | 'outcome.source'
  | 'outcome.calibration'
  | 'outcome.history'
  | 'latency'
  | 'fault';
