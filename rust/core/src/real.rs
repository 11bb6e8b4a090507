//! The two floating-point types that panels come in.

use ndarray::{ArrayView, Dimension};

mod sealed {
    use pulp::Simd;

    /// Doubles in the widest register.
    const MOST: usize = 8;

    pub trait Sealed: Sized {
        /// A register of doubles: of the first values, as many as it holds, then zeros.
        fn widened<S: Simd>(simd: S, values: &[Self]) -> S::f64s;
    }

    impl Sealed for f32 {
        #[inline(always)]
        fn widened<S: Simd>(_: S, values: &[Self]) -> S::f64s {
            let mut wide = [0.0; MOST];
            let wide = &mut wide[..S::F64_LANES];
            if values.len() >= S::F64_LANES {
                let values = &values[..S::F64_LANES];
                wide.iter_mut()
                    .zip(values)
                    .for_each(|(w, &v)| *w = v.into());
            } else {
                wide.iter_mut()
                    .zip(values)
                    .for_each(|(w, &v)| *w = v.into());
            }
            S::as_simd_f64s(wide).0[0]
        }
    }

    impl Sealed for f64 {
        #[inline(always)]
        fn widened<S: Simd>(simd: S, values: &[Self]) -> S::f64s {
            match S::as_simd_f64s(values).0.first() {
                Some(&whole) => whole,
                None => simd.partial_load_f64s(values),
            }
        }
    }
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
