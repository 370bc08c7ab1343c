//! Errors as problem documents.

use sanderling_types::{Code, Error};

use crate::HttpResponse;

/// The HTTP status that fits a code.
fn status(code: Code) -> u16 {
    match code {
        Code::NotFound => 404,
        Code::LimitExceeded => 413,
        Code::InvalidArgument | Code::UnknownItem => 400,
        Code::Internal | Code::InferenceFailed => 500,
        // What is left concerns the bundle: well-formed HTTP whose content cannot be used.
        _ => 422,
    }
}

/// Answers with a problem document and the status that fits the error's code.
pub(crate) fn problem(error: &Error) -> HttpResponse {
    problem_with_status(status(error.code()), error)
}

/// Answers with a problem document and a status of its own.
pub(crate) fn problem_with_status(status: u16, error: &Error) -> HttpResponse {
    let document = serde_json::json!({
        "type": "about:blank",
        "title": error.code().description(),
        "status": status,
        "code": error.code().as_str(),
        "detail": error.message(),
        "expected": error.expected_value(),
        "found": error.found_value(),
        "hint": error.hint_text(),
    });
    HttpResponse { status, content_type: "application/problem+json", body: document.to_string().into_bytes() }
}
