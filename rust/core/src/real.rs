//! The two floating-point types that panels come in.

use ndarray::{ArrayView, Dimension};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// An array of either type, so that a kernel decides once which arithmetic it uses.
#[derive(Debug, Clone)]
pub enum AnyView<'a, D: Dimension> {
    /// Single precision.
    F32(ArrayView<'a, f32, D>),
    /// Double precision.
    F64(ArrayView<'a, f64, D>),
}

/// `f32` or `f64`.
pub trait Real: sealed::Sealed + Copy + Send + Sync + Into<f64> + 'static {
    /// Forget the type, remember it as a variant.
    fn any<D: Dimension>(view: ArrayView<'_, Self, D>) -> AnyView<'_, D>;

    /// The nearest value of this type.
    fn nearest(value: f64) -> Self;
}

impl Real for f32 {
    fn any<D: Dimension>(view: ArrayView<'_, Self, D>) -> AnyView<'_, D> {
        AnyView::F32(view)
    }

    #[inline(always)]
    fn nearest(value: f64) -> Self {
        value as Self
    }
}

impl Real for f64 {
    fn any<D: Dimension>(view: ArrayView<'_, Self, D>) -> AnyView<'_, D> {
        AnyView::F64(view)
    }

    #[inline(always)]
    fn nearest(value: f64) -> Self {
        value
    }
}
