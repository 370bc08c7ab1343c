//! Data pipeline, models, losses, metrics, quantisation, ONNX writer, bundle writer.
