//! `--report`: one page that stands alone.

use std::fs;
use std::path::Path;

use crate::support::{WORLD, run, train};

/// Text that would be markup if it were not escaped.
const NAME: &str = "<script>alert('a')</script> & \"b\"";

/// What holds for every page that the program writes.
#[track_caller]
pub(crate) fn check_page(path: &Path) -> String {
    let page = fs::read_to_string(path).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"), "{page}");
    assert!(page.contains("default-src 'none'"), "the page forbids every request");
    for outside in ["<script", "<link", "<img", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside} in {page}");
    }
    // Every element is closed: nothing that was put in broke out of its place.
    for tag in ["svg", "figure", "table", "tr", "td", "th", "p", "h2", "small", "text", "div"] {
        let opened = page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    for value in ["NaN", "inf "] {
        assert!(!page.contains(value), "{value} in {page}");
    }
    page
}

#[test]
fn training_writes_a_page_that_stands_alone() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("report.html");
    let trained = train(
        WORLD.dir.path(),
        &["--name", NAME, "--report", path.to_str().unwrap()],
        &out.path().join("bundle"),
    )
    .expect_json(0);
    let page = check_page(&path);
    assert!(page.contains("&lt;script&gt;alert(&#39;a&#39;)&lt;/script&gt; &amp; &quot;b&quot;"), "{page}");
    let ndcg = trained["metrics"]["ndcg@10"]["value"].as_f64().unwrap();
    for text in [
        "item-knn",
        "popular",
        "Learning curve",
        "history",
        "encoder.onnx",
        "retrieval_score",
        "Calibration",
        "encoder to 8 and 11 bits",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    assert!(page.contains(&format!("NDCG@10 {ndcg:.4}")), "{page}");
    assert!(page.contains(trained["bundle_hash"].as_str().unwrap()));
}

#[test]
fn evaluation_writes_a_page_without_a_learning_curve() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("report.html");
    let (bundle, data) = (WORLD.path("bundle"), WORLD.path("data"));
    let evaluated = run!("evaluate", &bundle, &data, "--json", "--report", &path).expect_json(0);
    assert_eq!(evaluated["metrics"], WORLD.trained["metrics"], "the result is printed as without a report");
    let page = check_page(&path);
    assert!(!page.contains("Learning curve"), "{page}");
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_work() {
    let (out, nowhere) = (WORLD.path("unused-report"), WORLD.path("nowhere").join("report.html"));
    train(WORLD.dir.path(), &["--report", nowhere.to_str().unwrap()], &out).expect_error("io");
    assert!(!out.exists(), "nothing was trained");
    run!("evaluate", &WORLD.path("bundle"), &WORLD.path("data"), "--report", WORLD.dir.path(), "--json")
        .expect_error("io");
}
