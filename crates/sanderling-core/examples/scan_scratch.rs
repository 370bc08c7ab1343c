use sanderling_core::{ItemTable, Mask};
fn main() {
    let (n, dim) = (10_000usize, 64usize);
    let rows: Vec<f32> = (0..n * dim).map(|i| ((i * 7919 % 2003) as f32 / 1001.0) - 1.0).collect();
    let t = ItemTable::quantise(&rows, dim).unwrap();
    let q: Vec<f32> = (0..dim).map(|i| (i as f32 * 0.37).sin()).collect();
    let m = Mask::all(n);
    for _ in 0..3 {
        let s = std::time::Instant::now();
        let mut x = 0;
        for _ in 0..200 {
            x += t.top_k(std::hint::black_box(&q), 200, &m).len();
        }
        println!("{:?} per scan {x}", s.elapsed() / 200);
    }
}
