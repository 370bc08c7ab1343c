//! Tree ensembles: one encoding, strict decoding, scores as their definition says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use sanderling_core::{Bundle, Engine, Scorer, TreeEnsemble, TreeNode};
use sanderling_types::{Code, FileRole, Manifest};
use support::{Behaviour, FakeRuntime, Fixture, request};

const NUM_FEATURES: usize = 3;

/// A tree as people draw it.
#[derive(Debug, Clone)]
enum Drawn {
    Leaf(f32),
    Split { feature: u16, threshold: f32, missing_left: bool, children: Box<(Drawn, Drawn)> },
}

impl Drawn {
    fn nodes(&self) -> Vec<TreeNode> {
        match self {
            Drawn::Leaf(score) => vec![TreeNode::Leaf { score: *score }],
            Drawn::Split { feature, threshold, missing_left, children } => {
                let (left, right) = (children.0.nodes(), children.1.nodes());
                let split = TreeNode::Split {
                    feature: *feature,
                    threshold: *threshold,
                    missing_left: *missing_left,
                    right: left.len() as u16 + 1,
                };
                [vec![split], left, right].concat()
            }
        }
    }

    fn score(&self, row: &[f32]) -> f32 {
        match self {
            Drawn::Leaf(score) => *score,
            Drawn::Split { feature, threshold, missing_left, children } => {
                let value = row[usize::from(*feature)];
                let left = if value.is_nan() { *missing_left } else { value <= *threshold };
                if left { children.0.score(row) } else { children.1.score(row) }
            }
        }
    }
}

fn values() -> impl Strategy<Value = f32> {
    prop_oneof![
        -2.0f32..2.0,
        prop::sample::select(vec![0.0f32, -0.0, 0.5, 1.0]),
        prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX]),
    ]
}

fn trees() -> impl Strategy<Value = Vec<Drawn>> {
    let leaf = (-4.0f32..4.0).prop_map(Drawn::Leaf);
    let threshold = prop_oneof![-2.0f32..2.0, prop::sample::select(vec![0.0f32, -0.0, 0.5, 1.0])];
    let tree = leaf.prop_recursive(6, 40, 2, move |inner| {
        (0..NUM_FEATURES as u16, threshold.clone(), any::<bool>(), (inner.clone(), inner)).prop_map(
            |(feature, threshold, missing_left, children)| Drawn::Split {
                feature,
                threshold,
                missing_left,
                children: Box::new(children),
            },
        )
    });
    prop::collection::vec(tree, 1..6)
}

fn ensemble(drawn: &[Drawn]) -> TreeEnsemble {
    TreeEnsemble::new(NUM_FEATURES, &drawn.iter().map(Drawn::nodes).collect::<Vec<_>>()).unwrap()
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(drawn in trees()) {
        let trees = ensemble(&drawn);
        let decoded = TreeEnsemble::decode(&trees.encode()).unwrap();
        prop_assert_eq!(decoded.encode(), trees.encode());
        prop_assert_eq!(decoded, trees);
    }

    #[test]
    fn a_score_is_the_sum_of_the_leaves_that_a_row_reaches(
        drawn in trees(),
        features in prop::collection::vec(values(), 4 * NUM_FEATURES),
    ) {
        let scores = ensemble(&drawn).run(&features, &[4, NUM_FEATURES]).unwrap();
        for (row, score) in features.chunks_exact(NUM_FEATURES).zip(scores) {
            let expected: f32 = drawn.iter().map(|tree| tree.score(row)).sum();
            prop_assert_eq!(score.to_bits(), (expected + 0.0).to_bits());
        }
    }
}

/// `x1 <= 0.5 ? (x0 <= -1 or NaN ? 1 : 2) : 4`, and a leaf of 0.25.
fn small() -> TreeEnsemble {
    let split =
        |feature, threshold, missing_left, right| TreeNode::Split { feature, threshold, missing_left, right };
    let leaf = |score| TreeNode::Leaf { score };
    let first = vec![split(1, 0.5, false, 4), split(0, -1.0, true, 2), leaf(1.0), leaf(2.0), leaf(4.0)];
    TreeEnsemble::new(2, &[first, vec![leaf(0.25)]]).unwrap()
}

#[test]
fn the_bytes_are_those_of_the_format_page() {
    let mut expected = b"SNDT\x01\0\x02\0\x02\0\0\0\x06\0\0\0\x05\0\0\0\x01\0\0\0".to_vec();
    expected.extend([0x0001u16, 0x8000, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF].map(u16::to_le_bytes).as_flattened());
    expected.extend([4u16, 2, 0, 0, 0, 0].map(u16::to_le_bytes).as_flattened());
    expected.extend([0.5f32, -1.0, 1.0, 2.0, 4.0, 0.25].map(f32::to_le_bytes).as_flattened());
    assert_eq!(small().encode(), expected);
    let rows = [[-1.0, 0.5], [-0.9, 0.5], [f32::NAN, 0.0], [0.0, 0.6], [0.0, f32::NAN], [0.0, f32::INFINITY]];
    assert_eq!(small().scores(rows.as_flattened()), [1.25, 2.25, 1.25, 4.25, 4.25, 4.25]);
}

#[test]
fn every_cut_and_every_wrong_header_is_refused() {
    let bytes = small().encode();
    for end in 0..bytes.len() {
        assert_eq!(
            TreeEnsemble::decode(&bytes[..end]).unwrap_err().code(),
            Code::ModelInvalid,
            "cut at {end}"
        );
    }
    assert_eq!(
        TreeEnsemble::decode(&[bytes.as_slice(), &[0]].concat()).unwrap_err().code(),
        Code::ModelInvalid
    );
    let code = |at: usize, value: u8| {
        let mut changed = bytes.clone();
        changed[at] = value;
        TreeEnsemble::decode(&changed).unwrap_err().code()
    };
    assert_eq!(code(0, b'X'), Code::ModelInvalid, "magic");
    assert_eq!(code(4, 2), Code::UnsupportedFormatVersion);
    assert_eq!(code(6, 0), Code::LimitExceeded, "no features");
    assert_eq!(code(6, 1), Code::ModelInvalid, "feature 1 of 1");
    assert_eq!(code(7, 0xFF), Code::LimitExceeded, "features");
    assert_eq!(code(8, 0), Code::LimitExceeded, "no trees");
    assert_eq!(code(11, 0xFF), Code::LimitExceeded, "trees");
    assert_eq!(code(15, 0xFF), Code::LimitExceeded, "nodes");
    assert_eq!(code(16, 4), Code::ModelInvalid, "a tree that is too short");
}

#[test]
fn trees_that_are_not_whole_are_refused() {
    let split = |right| TreeNode::Split { feature: 0, threshold: 0.0, missing_left: false, right };
    let leaf = TreeNode::Leaf { score: 1.0 };
    let of =
        |tree: &[TreeNode]| TreeEnsemble::new(1, &[tree.to_vec()]).map(|_| ()).map_err(|error| error.code());
    assert_eq!(of(&[split(2), leaf, leaf]), Ok(()));
    let bad = Err(Code::ModelInvalid);
    for (tree, what) in [
        (vec![split(0), leaf, leaf], "a node that is its own child"),
        (vec![split(1), leaf, leaf], "one child twice"),
        (vec![split(3), leaf, leaf], "a child behind the end"),
        (vec![split(2), leaf], "no right child"),
        (vec![split(2), leaf, leaf, leaf], "a node that nobody reaches"),
        (vec![leaf, leaf], "two roots"),
        (vec![split(3), split(2), leaf, leaf], "a right child inside the left one"),
        (vec![TreeNode::Leaf { score: f32::NAN }], "a leaf that is not a number"),
        (vec![TreeNode::Leaf { score: 1e30 }], "a leaf that could overflow a sum"),
        (
            vec![
                TreeNode::Split { feature: 0, threshold: f32::INFINITY, missing_left: true, right: 2 },
                leaf,
                leaf,
            ],
            "an infinite threshold",
        ),
        (
            vec![TreeNode::Split { feature: 1, threshold: 0.0, missing_left: true, right: 2 }, leaf, leaf],
            "a feature out of range",
        ),
    ] {
        assert_eq!(of(&tree), bad, "{what}");
    }
    assert_eq!(of(&[]), Err(Code::LimitExceeded), "no node");
    let right_chain = |depth: usize| [[split(2), leaf].repeat(depth), vec![leaf]].concat();
    assert_eq!(of(&right_chain(32)), Ok(()));
    assert_eq!(of(&right_chain(33)), bad, "a path of 33 splits");
}

#[test]
fn inputs_of_another_shape_are_refused() {
    for (len, shape) in
        [(2, vec![1, 3]), (0, vec![0, 2]), (3, vec![1, 2]), (2, vec![2]), (20_002, vec![10_001, 2])]
    {
        let error = small().run(&vec![0.0; len], &shape).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{shape:?}");
    }
}

/// A tree that likes what is unlike the retrieval score.
fn contrary(num_features: usize) -> Vec<u8> {
    let split = TreeNode::Split { feature: 0, threshold: 0.1, missing_left: false, right: 2 };
    let tree = vec![split, TreeNode::Leaf { score: 1.0 }, TreeNode::Leaf { score: -1.0 }];
    TreeEnsemble::new(num_features, &[tree]).unwrap().encode()
}

#[test]
fn an_engine_runs_the_trees_and_never_the_onnx_file_beside_them() {
    let fixture = Fixture { trees: Some(contrary(10)), ..Fixture::new() };
    let mut files = fixture.files();
    let broken = FakeRuntime { ranker: Behaviour::Fails, ..FakeRuntime::default() };
    let ask = |files| {
        let engine = Engine::new(Bundle::open(files, None).unwrap(), &broken).unwrap();
        engine.recommend(&request(&["boot"], 4)).response
    };
    let response = ask(files.clone());
    assert_eq!(response.faults, []);
    let scores: Vec<f32> = response.recommendations.iter().map(|found| found.score).collect();
    assert_eq!(scores, [1.0; 4], "{response:?}");
    let listed = |id: &str| response.recommendations.iter().any(|found| found.item_id.as_str() == id);
    assert!(!listed("clog"), "the nearest of five candidates is the worst for these trees: {response:?}");

    // A host may leave out the file that is for other tools; what is there is still checked.
    let name = FileRole::Ranker.file_name();
    files.insert(name, b"changed".to_vec());
    assert_eq!(Bundle::open(files.clone(), None).unwrap_err().code(), Code::FileTruncated);
    let kept = files.iter().filter(|(other, _)| *other != name);
    let without: std::collections::BTreeMap<String, Vec<u8>> =
        kept.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
    assert_eq!(ask(without.into()), response);
}

#[test]
fn trees_of_other_features_are_refused() {
    let fixture = Fixture { trees: Some(contrary(9)), ..Fixture::new() };
    assert_eq!(Bundle::open(fixture.files(), None).unwrap_err().code(), Code::ModelInvalid);
    let manifest = Manifest::decode(Fixture::new().files().get(Manifest::FILE_NAME).unwrap()).unwrap();
    assert!(!manifest.files.contains_key(&FileRole::Trees), "the role is optional");
}
