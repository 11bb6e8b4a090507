//! Scores that spread so widely that sums of them lose the smaller ones.
//!
//! Two neighbouring scores more than a cap apart are never both between zero and the cap. So a gap of
//! two caps gives the same weights, and the same differences of distances, as any larger one: such
//! scores are projected with their gaps narrowed.

/// Scores that spread over more caps than this lose digits in sums.
const WIDE: f64 = 1e6;

/// Whether falling scores spread over too many caps.
pub(super) fn is_wide(falling: &[f64], cap: f64) -> bool {
    match (falling.first(), falling.last()) {
        (Some(first), Some(last)) => first - last > WIDE * cap,
        _ => false,
    }
}

/// Falling scores, the first at zero, none farther from the one before than `gap`.
pub(super) fn narrow(falling: &[f64], gap: f64, out: &mut Vec<f64>) {
    out.clear();
    let mut place = 0.0;
    let mut before = None;
    out.extend(falling.iter().map(|&score| {
        place -= before.map_or(0.0, |before: f64| (before - score).min(gap));
        before = Some(score);
        place
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gaps_that_are_wider_become_narrower() {
        let mut places = Vec::new();
        narrow(&[1e300, 3.0, 2.5, 1.0, f64::MIN], 1.0, &mut places);
        assert_eq!(places, [0.0, -1.0, -1.5, -2.5, -3.5]);
        narrow(&[], 1.0, &mut places);
        assert!(places.is_empty());
    }

    #[test]
    fn spread_counts_in_caps() {
        assert!(is_wide(&[1e98, 0.0], 1.0) && is_wide(&[f64::MAX, f64::MIN], 1.0));
        assert!(!is_wide(&[1e98, 1e98], 1e-5) && !is_wide(&[], 1.0));
    }
}
