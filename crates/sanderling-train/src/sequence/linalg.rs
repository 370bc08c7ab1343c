//! Matrix products over row-major slices, one thread, by the `gemm` crate.

/// A read-only matrix view: element `(r, c)` is `data[r * row_stride + c * col_stride]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// `[rows, cols]`, row-major, rows `row_stride` elements apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * row_stride + cols <= data.len(), "view is outside its data");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// `[rows, cols]`, row-major and dense.
    pub(crate) fn dense(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// The transposed view.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// `out = keep * out + scale * a b` for row-major `out` of `[a.rows, b.cols]` with rows
/// `out_stride` elements apart.
pub(crate) fn product(out: &mut [f32], out_stride: usize, a: View<'_>, b: View<'_>, keep: bool, scale: f32) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(k, b.rows, "inner dimensions differ");
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * out_stride + n <= out.len(), "product is outside its output");
    // SAFETY: the constructor of `View` and the assertion above keep every access of the product
    // inside the three slices; strides are small positive numbers, so the casts do not wrap.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            keep,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{View, product};

    #[test]
    fn multiplies_transposed_and_strided_views() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // [2, 3]
        let b = [1.0, 0.5, -1.0, 2.0, 0.0, 3.0]; // [2, 3]
        let mut out = [10.0; 4];
        product(&mut out, 2, View::dense(&a, 2, 3), View::dense(&b, 2, 3).t(), false, 2.0);
        assert_eq!(out, [-2.0, 22.0, 1.0, 52.0]);
        product(&mut out, 2, View::dense(&a, 2, 3), View::dense(&b, 2, 3).t(), true, 1.0);
        assert_eq!(out, [-3.0, 33.0, 1.5, 78.0]);
        let first_two = View::strided(&a, 2, 2, 3);
        product(&mut out, 2, first_two, first_two.t(), false, 1.0);
        assert_eq!(out, [5.0, 14.0, 14.0, 41.0]);
    }
}
