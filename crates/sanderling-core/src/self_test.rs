//! Known results: browsers have shipped vector instructions that were valid and wrong.

use sanderling_kernels::{Outline, Packing, Query, RoundedLinear, Top, WeightBits, integer_dot};

/// Not a multiple of any vector's width, so that rests are tested too.
const DIM: usize = 37;
const ROWS: usize = 5;

/// Whether the kernels whose instructions differ between builds give what plain arithmetic does. Takes microseconds.
#[must_use]
pub fn self_test() -> bool {
    // Numbers of -127 to 127; and, with 8,191 for the largest, ones that rounding leaves as they are.
    let integers: Vec<i8> =
        (0..ROWS * DIM).map(|at| ((at * 37 + 11) % 255) as u8 as i8).map(|x| x.max(-127)).collect();
    let query: Vec<f32> =
        (0..DIM).map(|at| if at == 3 { -8191.0 } else { (at * 431 % 8191) as f32 - 4000.0 }).collect();
    scans(&query, &integers) && bounds(&query, &integers) && multiplies(&query, &integers)
}

/// The sum of products, one by one. A loop that the compiler unrolls into vectors would be kilobytes of a page's download.
#[inline(never)]
fn sum(query: &[f32], row: &mut dyn Iterator<Item = &i8>) -> i32 {
    query.iter().zip(row).map(|(q, x)| *q as i32 * i32::from(*x)).sum()
}

fn scans(query: &[f32], integers: &[i8]) -> bool {
    let bytes: Vec<u8> = integers.iter().map(|x| *x as u8).collect();
    let mut found = [0; ROWS];
    Query::new(query, Packing::Bytes).sums(&bytes, &mut found);
    let rows = || bytes.chunks_exact(DIM).zip(integers.chunks_exact(DIM));
    let scanned = rows().zip(found).all(|((_, row), found)| sum(query, &mut row.iter()) == found);
    let squares = |row: &[i8]| {
        let numbers: Vec<f32> = row.iter().map(|x| f32::from(*x)).collect();
        sum(&numbers, &mut row.iter())
    };
    scanned && rows().all(|(bytes, row)| integer_dot(bytes, bytes, Packing::Bytes) == squares(row))
}

/// Whether a scan that bounds scores finds the best rows.
fn bounds(query: &[f32], integers: &[i8]) -> bool {
    const WIDTH: usize = 64;
    const NUM_ROWS: usize = 128;
    const ONE: [u8; 2] = [0x80, 0x3F];
    let query: Vec<f32> = query.iter().cycle().take(WIDTH).copied().collect();
    let rows: Vec<u8> = integers.iter().cycle().take(NUM_ROWS * WIDTH).map(|x| *x as u8).collect();
    let query = Query::new(&query, Packing::Bytes);
    let scales = [ONE; NUM_ROWS];
    let outline = Outline::new(&rows, &scales, Packing::Bytes);
    let best = |outline: Option<&Outline>| {
        let mut top = Top::new(7, NUM_ROWS);
        query.scan(&rows, &scales, outline, &[u64::MAX; NUM_ROWS / 64], &mut top);
        top.into_sorted()
    };
    best(outline.as_ref()) == best(None)
}

/// As weights `[37, 5]`; the sums are under 2^24, which f32 holds.
fn multiplies(query: &[f32], integers: &[i8]) -> bool {
    let small: Vec<i8> = integers.iter().map(|x| x / 4).collect();
    let weights: Vec<i16> = small.iter().map(|x| i16::from(*x)).collect();
    let column = |column: usize| sum(query, &mut small[column..].iter().step_by(ROWS)) as f32;
    let expected: Vec<f32> = (0..ROWS).map(column).collect();
    [WeightBits::Eight, WeightBits::Eleven].iter().all(|bits| {
        let linear = RoundedLinear::new(&weights, *bits, &[1.0; ROWS], &[0.0; ROWS]);
        // Five rows: four that are computed together, and one.
        linear.run(&query.repeat(5)).chunks_exact(ROWS).all(|found| found == expected)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernels_of_this_build_work() {
        assert!(super::self_test());
    }
}
