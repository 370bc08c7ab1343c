//! Products with a constant matrix.

use crate::simd::widest;

/// Columns that are computed together: two vectors of four in wasm.
const PANEL: usize = 8;
/// Rows that are computed together, so that a loaded weight is used as often.
const TILE: usize = 4;

/// `y = x weight + bias`, the weights in panels of eight columns. Every element is summed in the order of the
/// inputs, however many rows there are.
#[derive(Debug)]
pub struct Linear {
    inputs: usize,
    outputs: usize,
    /// `[panels, inputs, 8]`, zeros behind the last column.
    weight: Vec<[f32; PANEL]>,
    /// `[panels, 8]`.
    bias: Vec<[f32; PANEL]>,
}

impl Linear {
    /// `bias` `[outputs]`; `at` gives the weight of an input, below `inputs`, for an output.
    #[must_use]
    pub fn new(inputs: usize, bias: &[f32], at: impl Fn(usize, usize) -> f32) -> Self {
        let outputs = bias.len();
        let panels = 0..outputs.div_ceil(PANEL);
        let column = |panel: usize, lane: usize| Some(panel * PANEL + lane).filter(|col| *col < outputs);
        let of_panel = |panel: usize, f: &dyn Fn(usize) -> f32| {
            std::array::from_fn(|lane| column(panel, lane).map_or(0.0, f))
        };
        let weight = panels.clone().flat_map(|panel| {
            let at = &at;
            (0..inputs).map(move |input| of_panel(panel, &|col| at(input, col)))
        });
        Self {
            inputs,
            outputs,
            weight: weight.collect(),
            bias: panels.map(|panel| of_panel(panel, &|col| bias[col])).collect(),
        }
    }

    /// `x` `[rows, inputs]` to `[rows, outputs]`.
    #[must_use]
    pub fn run(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / self.inputs * self.outputs];
        widest(
            #[inline(always)]
            || self.tiles(x, &mut out),
        );
        out
    }

    #[inline(always)]
    fn tiles(&self, x: &[f32], out: &mut [f32]) {
        let rows = x.len() / self.inputs;
        let mut row = 0;
        while row + TILE <= rows {
            self.tile::<TILE>(&x[row * self.inputs..], &mut out[row * self.outputs..]);
            row += TILE;
        }
        for row in row..rows {
            self.tile::<1>(&x[row * self.inputs..], &mut out[row * self.outputs..]);
        }
    }

    /// The first `ROWS` rows.
    #[inline(always)]
    fn tile<const ROWS: usize>(&self, x: &[f32], out: &mut [f32]) {
        let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &x[row * self.inputs..][..self.inputs]);
        let panels = self.weight.chunks_exact(self.inputs).zip(&self.bias);
        for (panel, (weights, bias)) in panels.enumerate() {
            let sums = products(rows, weights);
            let first = panel * PANEL;
            let width = PANEL.min(self.outputs - first);
            for (row, sums) in sums.iter().enumerate() {
                let out = &mut out[row * self.outputs + first..][..width];
                match out.as_mut_array::<PANEL>() {
                    Some(out) => *out = std::array::from_fn(|lane| sums[lane] + bias[lane]),
                    None => out
                        .iter_mut()
                        .zip(sums.iter().zip(bias))
                        .for_each(|(out, (sum, bias))| *out = sum + bias),
                }
            }
        }
    }
}

/// Products of rows with the columns of a panel, each as long as the panel.
#[cfg(not(target_feature = "simd128"))]
#[inline(always)]
fn products<const ROWS: usize>(rows: [&[f32]; ROWS], weights: &[[f32; PANEL]]) -> [[f32; PANEL]; ROWS] {
    let mut sums = [[0.0f32; PANEL]; ROWS];
    for (input, weights) in weights.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let value = row[input];
            for lane in 0..PANEL {
                sums[lane] += value * weights[lane];
            }
        }
    }
    sums
}

/// The same, without the loads and stores and bounds that the compiler leaves in.
#[cfg(target_feature = "simd128")]
#[inline(always)]
fn products<const ROWS: usize>(rows: [&[f32]; ROWS], weights: &[[f32; PANEL]]) -> [[f32; PANEL]; ROWS] {
    use core::arch::wasm32::{f32x4_add, f32x4_mul, f32x4_splat, v128, v128_load, v128_load32_splat};

    let rows = rows.map(|row| row[..weights.len()].as_ptr());
    let mut sums = [[f32x4_splat(0.0); 2]; ROWS];
    for (input, weights) in weights.iter().enumerate() {
        let weights = weights.as_ptr();
        // SAFETY: eight floats are two vectors, and no load needs alignment.
        let (low, high) = unsafe { (v128_load(weights.cast()), v128_load(weights.add(4).cast())) };
        for (sums, row) in sums.iter_mut().zip(rows) {
            // SAFETY: every row was found to have `weights.len()` elements.
            let value = unsafe { v128_load32_splat(row.add(input).cast()) };
            sums[0] = f32x4_add(sums[0], f32x4_mul(value, low));
            sums[1] = f32x4_add(sums[1], f32x4_mul(value, high));
        }
    }
    // SAFETY: two vectors are eight numbers, and any bits are numbers.
    sums.map(|sums| unsafe { core::mem::transmute::<[v128; 2], [f32; PANEL]>(sums) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_and_column_is_summed_in_the_same_order() {
        let weight = |input: usize, output: usize| (input * 31 + output * 17) as f32 / 97.0 - 1.0;
        for (inputs, outputs) in [(1, 1), (7, 8), (16, 9), (5, 23)] {
            let bias: Vec<f32> = (0..outputs).map(|i| i as f32).collect();
            let linear = Linear::new(inputs, &bias, weight);
            for rows in 0..10 {
                let x: Vec<f32> = (0..rows * inputs).map(|i| (i % 13) as f32 / 7.0 - 0.8).collect();
                let expected: Vec<f32> = x
                    .chunks_exact(inputs)
                    .flat_map(|row| {
                        let dot = |output: usize| {
                            let products = row.iter().enumerate().map(|(i, x)| x * weight(i, output));
                            products.fold(0.0f32, |sum, product| sum + product)
                        };
                        (0..outputs).map(|output| dot(output) + bias[output]).collect::<Vec<f32>>()
                    })
                    .collect();
                assert_eq!(linear.run(&x), expected, "{inputs} to {outputs}, {rows} rows");
            }
        }
    }
}
