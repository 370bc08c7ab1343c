//! Errors as problem documents (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sanderling_types::{Code, Error};
use serde::{Deserialize, Serialize};

/// A problem document: the body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:sanderling:problem:` followed by the code.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// What the code means, for people; the same for every problem of this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code, the same as everywhere else.
    pub code: String,
    /// What is wrong with this request, for people.
    pub detail: String,
    /// What was expected, if stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was found instead, if stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

impl Problem {
    /// The document of an error.
    #[must_use]
    pub fn new(error: &Error) -> Self {
        Self {
            problem_type: format!("urn:sanderling:problem:{}", error.code()),
            title: error.code().description().to_owned(),
            status: http_status(error.code()),
            code: error.code().to_string(),
            detail: error.message().to_owned(),
            expected: error.expected_value().map(str::to_owned),
            found: error.found_value().map(str::to_owned),
        }
    }

    /// The answer with this document; `retry_after_seconds` is sent with 429 only.
    pub(crate) fn into_response(self, retry_after_seconds: u32) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
        }
        response
    }
}

/// The HTTP status of a code.
#[must_use]
pub fn http_status(code: Code) -> u16 {
    match code {
        Code::ReportInvalid
        | Code::UnsupportedFormatVersion
        | Code::UnknownBundle
        | Code::UnknownField
        | Code::BinOutOfRange
        | Code::PrivacyViolation
        | Code::ReportTooEarly
        | Code::ReportExpired
        | Code::InvalidArgument => 400,
        Code::NotFound => 404,
        Code::ReportConflict => 409,
        Code::ReportTooLarge => 413,
        Code::Overloaded => 429,
        Code::StorageFull => 507,
        _ => 500,
    }
}
