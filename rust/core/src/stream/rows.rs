//! Pieces of contiguous rows, in the precision in which they lie there.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, Ix2};

use super::thin::{columns_times, rows_times};
use super::widen;
use crate::vector::contiguous;
use crate::{AnyView, Real};

/// Rows of a block, all of one length.
pub(super) enum Rows<'a> {
    Single(Vec<&'a [f32]>),
    Double(Vec<&'a [f64]>),
}

impl<'a> Rows<'a> {
    /// Some rows and columns of a view whose rows are contiguous.
    pub(super) fn of(
        view: &'a AnyView<'_, Ix2>,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Self {
        match view {
            AnyView::F32(view) => Self::Single(slices(view.view(), rows, columns)),
            AnyView::F64(view) => Self::Double(slices(view.view(), rows, columns)),
        }
    }

    /// All of a view whose rows are contiguous.
    pub(super) fn whole(view: ArrayView2<'a, f64>) -> Self {
        Self::Double(slices(view, 0..view.nrows(), 0..view.ncols()))
    }

    /// All of a view, in place where its rows are contiguous, else written to the buffer.
    pub(super) fn read<R: Real>(view: ArrayView2<'a, R>, buffer: &'a mut Array2<f64>) -> Self {
        if !view.rows().into_iter().all(|row| row.to_slice().is_some()) {
            return Self::widened(view, buffer);
        }
        let (rows, columns) = (0..view.nrows(), 0..view.ncols());
        match R::any(view) {
            AnyView::F32(view) => Self::Single(slices(view, rows, columns)),
            AnyView::F64(view) => Self::Double(slices(view, rows, columns)),
        }
    }

    /// All of a view of any layout, written to the buffer.
    pub(super) fn widened<R: Real>(view: ArrayView2<'_, R>, buffer: &'a mut Array2<f64>) -> Self {
        if buffer.dim() != view.dim() {
            *buffer = Array2::zeros(view.dim());
        }
        for (row, mut line) in view.rows().into_iter().zip(buffer.rows_mut()) {
            widen(row, contiguous(line.as_slice_mut()));
        }
        Self::whole(buffer.view())
    }

    /// [`columns_times`].
    pub(super) fn columns_times(&self, u: &[f64], lanes: usize, out: &mut [f64]) {
        match self {
            Self::Single(rows) => columns_times(rows, u, lanes, out),
            Self::Double(rows) => columns_times(rows, u, lanes, out),
        }
    }

    /// [`rows_times`].
    pub(super) fn rows_times(&self, z: &[f64], lanes: usize, out: &mut [f64]) {
        match self {
            Self::Single(rows) => rows_times(rows, z, lanes, out),
            Self::Double(rows) => rows_times(rows, z, lanes, out),
        }
    }
}

fn slices<E>(view: ArrayView2<'_, E>, rows: Range<usize>, columns: Range<usize>) -> Vec<&[E]> {
    rows.map(|row| {
        let row = contiguous(view.index_axis_move(Axis(0), row).to_slice());
        &row[columns.clone()]
    })
    .collect()
}
