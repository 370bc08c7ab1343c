//! Good and bad shared sessions, the same for every implementation that makes or reads them.

use sanderling_types::SharedSession;
use serde_json::Value;

/// The bytes of a case: its text, with as many spaces for the `@` as bring it to `padded_to` bytes.
fn bytes_of(case: &Value) -> Vec<u8> {
    let text = case["text"].as_str().expect("a case has a text");
    let padded_to = case["padded_to"].as_u64().expect("a case has a length") as usize;
    match text.contains('@') {
        true => text.replacen('@', &" ".repeat(padded_to + 1 - text.len()), 1).into_bytes(),
        false => text.as_bytes().to_vec(),
    }
}

#[test]
fn golden_sessions_are_read_and_the_others_refused_with_their_code() {
    let golden: Value = serde_json::from_str(include_str!("golden/shared_session.json")).expect("it is JSON");
    let cases = golden["cases"].as_array().expect("cases are a list");
    assert!(cases.len() > 40, "only {} cases", cases.len());
    for case in cases {
        let bytes = bytes_of(case);
        if case["text"].as_str().is_some_and(|text| text.contains('@')) {
            assert_eq!(Some(bytes.len() as u64), case["padded_to"].as_u64(), "{case}");
        }
        let answer = SharedSession::decode(&bytes);
        let found = answer.as_ref().map_or_else(|error| error.code().as_str(), |_| "ok");
        assert_eq!(Some(found), case["expected"].as_str(), "{}: {answer:?}", case["name"]);
        if let Ok(mut session) = answer {
            session.pad().expect("what was read fits");
            let again = SharedSession::decode(&session.encode()).expect("what is written is read");
            assert_eq!(again, session, "{}", case["name"]);
        }
    }
}
