//! Known results: browsers have shipped vector instructions that were valid and wrong.

use sanderling_kernels::{Outline, Packing, Query, RoundedLinear, Top, WeightBits, integer_dot};

/// Not a multiple of any vector's width, so that rests are tested too.
const DIM: usize = 37;
const ROWS: usize = 5;

/// Whether the kernels whose instructions differ between builds give what plain arithmetic does. Takes microseconds. Plain loops over
/// arrays: a page compiles this before its first list, and every iterator would be four functions more.
#[must_use]
pub fn self_test() -> bool {
    // Numbers of -127 to 127; and, with 8,191 for the largest, ones that rounding leaves as they are.
    let mut integers = [0; ROWS * DIM];
    for (at, integer) in integers.iter_mut().enumerate() {
        *integer = (((at * 37 + 11) % 255) as u8 as i8).max(-127);
    }
    let mut query = [0.0; DIM];
    for (at, number) in query.iter_mut().enumerate() {
        *number = if at == 3 { -8191.0 } else { (at * 431 % 8191) as f32 - 4000.0 };
    }
    scans(&query, &integers) && bounds(&query, &integers) && multiplies(&query, &integers)
}

/// The sum of products with every so manieth integer, one by one.
#[inline(never)]
fn sum(query: &[f32; DIM], integers: &[i8], step: usize) -> i32 {
    let mut sum = 0;
    for (at, number) in query.iter().enumerate() {
        sum += *number as i32 * i32::from(integers[at * step]);
    }
    sum
}

fn scans(query: &[f32; DIM], integers: &[i8; ROWS * DIM]) -> bool {
    let mut bytes = [0; ROWS * DIM];
    for (byte, integer) in bytes.iter_mut().zip(integers) {
        *byte = *integer as u8;
    }
    let mut found = [0; ROWS];
    Query::new(query, Packing::Bytes).sums(&bytes, &mut found);
    for (row, found) in found.iter().enumerate() {
        let (start, end) = (row * DIM, (row + 1) * DIM);
        let mut numbers = [0.0; DIM];
        for (number, integer) in numbers.iter_mut().zip(&integers[start..end]) {
            *number = f32::from(*integer);
        }
        let row = &bytes[start..end];
        if sum(query, &integers[start..end], 1) != *found
            || sum(&numbers, &integers[start..end], 1) != integer_dot(row, row, Packing::Bytes)
        {
            return false;
        }
    }
    true
}

/// Whether a scan that bounds scores finds the best rows.
fn bounds(query: &[f32; DIM], integers: &[i8; ROWS * DIM]) -> bool {
    const WIDTH: usize = 64;
    const NUM_ROWS: usize = 128;
    const SCALES: [[u8; 2]; NUM_ROWS] = [[0x80, 0x3F]; NUM_ROWS];
    let mut long = [0.0; WIDTH];
    for (at, number) in long.iter_mut().enumerate() {
        *number = query[at % DIM];
    }
    let mut rows = vec![0; NUM_ROWS * WIDTH];
    for (at, byte) in rows.iter_mut().enumerate() {
        *byte = integers[at % integers.len()] as u8;
    }
    let query = Query::new(&long, Packing::Bytes);
    let outline = Outline::new(&rows, &SCALES, Packing::Bytes);
    let best = |outline: Option<&Outline>| {
        let mut top = Top::new(7, NUM_ROWS);
        query.scan(&rows, &SCALES, outline, &[u64::MAX; NUM_ROWS / 64], &mut top);
        top.into_sorted()
    };
    best(outline.as_ref()) == best(None)
}

/// As weights `[37, 5]`; the sums are under 2^24, which f32 holds.
fn multiplies(query: &[f32; DIM], integers: &[i8; ROWS * DIM]) -> bool {
    const COPIES: usize = 5;
    let (mut small, mut weights) = ([0; ROWS * DIM], [0; ROWS * DIM]);
    for (at, integer) in integers.iter().enumerate() {
        small[at] = integer / 4;
        weights[at] = i16::from(integer / 4);
    }
    let mut expected = [0.0; ROWS];
    for (column, expected) in expected.iter_mut().enumerate() {
        *expected = sum(query, &small[column..], ROWS) as f32;
    }
    // Five rows: four that are computed together, and one.
    let mut queries = [0.0; COPIES * DIM];
    for (at, number) in queries.iter_mut().enumerate() {
        *number = query[at % DIM];
    }
    for bits in [WeightBits::Eight, WeightBits::Eleven] {
        let linear = RoundedLinear::new(&weights, bits, &[1.0; ROWS], &[0.0; ROWS]);
        for (at, found) in linear.run(&queries).iter().enumerate() {
            if *found != expected[at % ROWS] {
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernels_of_this_build_work() {
        assert!(super::self_test());
    }
}
