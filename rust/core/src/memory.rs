//! Whether the memory of a kernel can be had, before it begins.
//!
//! A failed allocation ends the process. So a kernel lists the arrays that it has at a time, and
//! [`require`] asks for them together; the memory is given back at once, untouched. Fallbacks that
//! need more, as a full decomposition does, ask again when they are reached.

use crate::{CoreError, Result};

/// Less than this is not asked for: the question would cost more than a small kernel.
const SMALL: usize = 1 << 22;

/// What a kernel has in memory at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrays {
    /// Of all, in bytes; None beyond what can be counted.
    total: Option<usize>,
    /// The largest: bytes, name, shape.
    largest: Option<(usize, &'static str, Vec<usize>)>,
    hint: String,
}

impl Arrays {
    pub(crate) fn new() -> Self {
        Self {
            total: Some(0),
            ..Self::default()
        }
    }

    /// Further numbers of eight bytes.
    pub(crate) fn and(self, what: &'static str, shape: &[usize]) -> Self {
        self.times(1, what, shape)
    }

    /// Several arrays of this shape.
    pub(crate) fn times(mut self, n: usize, what: &'static str, shape: &[usize]) -> Self {
        let one = bytes(shape);
        let all = one.and_then(|one| one.checked_mul(n));
        self.total = self
            .total
            .zip(all)
            .and_then(|(sum, more)| sum.checked_add(more));
        let size = one.unwrap_or(usize::MAX);
        if self
            .largest
            .as_ref()
            .is_none_or(|(largest, ..)| size > *largest)
        {
            self.largest = Some((size, what, shape.to_vec()));
        }
        self
    }

    /// What may have gone wrong, for the error.
    pub(crate) fn hint(self, hint: Option<String>) -> Self {
        Self {
            hint: hint.unwrap_or_default(),
            ..self
        }
    }

    /// Refuse unless all of them can be had together.
    ///
    /// # Errors
    ///
    /// [`CoreError::Memory`].
    pub(crate) fn require(self) -> Result<()> {
        if self.total.is_some_and(is_free) {
            return Ok(());
        }
        let (_, what, shape) = self.largest.unwrap_or_default();
        Err(CoreError::Memory {
            what,
            shape,
            bytes: self.total.unwrap_or(usize::MAX),
            hint: self.hint,
        })
    }
}

/// Refuse an array of numbers of eight bytes that cannot be had.
///
/// # Errors
///
/// [`CoreError::Memory`].
pub fn require(what: &'static str, shape: &[usize]) -> Result<()> {
    Arrays::new().and(what, shape).require()
}

/// Threads that have a scratch of their own.
pub(crate) fn n_threads() -> usize {
    rayon::current_num_threads()
}

/// Entries of a triangle, or as many as can be counted.
pub(crate) fn triangle(n: usize) -> usize {
    n.saturating_mul(n.saturating_add(1)) / 2
}

fn bytes(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(size_of::<f64>(), |product, &n| product.checked_mul(n))
}

fn is_free(total: usize) -> bool {
    total < SMALL || Vec::<u8>::new().try_reserve_exact(total).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_granted_and_what_does_not_is_named() {
        assert_eq!(require("gram", &[1000, 1000]), Ok(()));
        let got = Arrays::new()
            .and("cross", &[10])
            .times(2, "gram", &[1 << 30, 1 << 30])
            .hint(Some("; are the axes swapped?".to_owned()))
            .require();
        let text = got.map_err(|error| error.to_string());
        assert!(text.is_err_and(
            |text| text.contains("gram of shape [1073741824, 1073741824]")
                && text.ends_with("are the axes swapped?")
        ));
        assert!(require("gram", &[usize::MAX, 2]).is_err());
    }
}
