//! What the panel kernels refuse, and in which words.
#![allow(missing_docs)]

use ml4t_models_core::managed::managed_portfolios;
use ml4t_models_core::moments::{Moments, from_panel, from_rows};
use ml4t_models_core::ranks::{Correlation, cross_sectional_correlation};
use ml4t_models_core::{krylov, linalg, pool};
use ndarray::{Array1, Array2, Array3};

fn words<T>(result: ml4t_models_core::Result<T>) -> String {
    result
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

#[test]
fn arrays_that_do_not_line_up() {
    let z = Array3::<f64>::zeros((3, 2, 1));
    let (r, other) = (Array2::<f64>::zeros((3, 2)), Array2::<f64>::zeros((3, 4)));
    let mask = Array2::from_elem((2, 2), 1_u8);
    let wrong_returns = "returns must have shape [3, 2]; got [3, 4]";
    let wrong_mask = "mask must have shape [3, 2]; got [2, 2]";
    assert_eq!(
        words(from_panel(z.view(), other.view(), None, true)),
        wrong_returns
    );
    assert_eq!(
        words(managed_portfolios(z.view(), other.view(), None)),
        wrong_returns
    );
    let mask = Some(mask.view());
    assert_eq!(
        words(from_panel(z.view(), r.view(), mask, true)),
        wrong_mask
    );
    assert_eq!(
        words(managed_portfolios(z.view(), r.view(), mask)),
        wrong_mask
    );
    let pearson = |mask| {
        words(cross_sectional_correlation(
            r.view(),
            r.view(),
            mask,
            Correlation::Pearson,
        ))
    };
    assert_eq!(pearson(mask), wrong_mask);
    let got = cross_sectional_correlation(r.view(), other.view(), None, Correlation::Pearson);
    assert_eq!(words(got), "b must have shape [3, 2]; got [3, 4]");
}

#[test]
fn offsets_that_do_not_cut_the_rows() {
    let (z, r) = (Array2::<f64>::zeros((4, 1)), Array1::<f64>::zeros(4));
    let refusal = |offsets: &[usize]| words(from_rows(z.view(), r.view(), offsets, true));
    let rule = "offsets must be ascending from 0 to the number of rows, 4; got";
    assert_eq!(refusal(&[]), format!("{rule} no entry"));
    assert_eq!(refusal(&[1, 4]), format!("{rule} 1 to 4"));
    assert_eq!(refusal(&[0, 3]), format!("{rule} 0 to 3"));
    assert_eq!(
        refusal(&[0, 3, 2, 4]),
        format!("{rule} 3 before 2 at date 1")
    );
    assert_eq!(refusal(&[0, 4]), "");
}

#[test]
fn moments_that_do_not_belong_together() {
    let (a, b) = (Moments::zeros(3, 2), Moments::zeros(3, 4));
    assert!(words(a.merge(&b)).contains("must have shape [3, 2]; got [3, 4]"));
    assert!(words(a.append(&b)).contains("must have shape [3, 2]; got [3, 4]"));
    assert!(words(a.select(&[0, 3])).contains("below the number of dates, 3; got 3"));
}

#[test]
fn no_threads_at_all() {
    assert!(words(pool::set_num_threads(0)).contains("n_threads must be between 1"));
}

#[test]
fn nothing_is_an_answer_not_an_error() {
    for shape in [(0, 0, 0), (0, 5, 2), (3, 0, 2), (3, 5, 0)] {
        let z = Array3::<f32>::zeros(shape);
        let r = Array2::<f32>::zeros((shape.0, shape.1));
        for constant in [true, false] {
            let p = shape.2 + usize::from(constant);
            let got = from_panel(z.view(), r.view(), None, constant);
            assert_eq!(got.as_ref().map(Moments::n_dates), Ok(shape.0));
            assert_eq!(got.as_ref().map(Moments::n_instruments), Ok(p));
        }
        let got = managed_portfolios(z.view(), r.view(), None).map(|x| x.dim());
        assert_eq!(got, Ok((shape.0, shape.2 + 1)));
    }
}

#[test]
fn a_search_for_no_pair_or_in_no_column() {
    let seek = |k, block, start: Option<&Array2<f64>>, width| {
        words(krylov::leading(
            9,
            k,
            block,
            5,
            start.map(|s| s.view()),
            |q| Array2::zeros((q.nrows(), width)),
        ))
    };
    assert_eq!(seek(0, 2, None, 2), "k must be at least 1; got 0");
    assert_eq!(seek(1, 0, None, 2), "block must be at least 1; got 0");
    let start = Array2::zeros((8, 2));
    assert_eq!(
        seek(1, 2, Some(&start), 2),
        "start must have shape [9, 2]; got [8, 2]"
    );
    assert_eq!(
        seek(1, 2, None, 3),
        "the operator's product must have shape [9, 2]; got [9, 3]"
    );
}

#[test]
fn matrices_that_do_not_line_up_or_are_empty() {
    let (wide, b) = (Array2::<f64>::zeros((2, 3)), Array1::<f64>::zeros(3));
    let got = linalg::symmetric_eigen(wide.view());
    assert_eq!(words(got), "the matrix must have shape [2, 2]; got [2, 3]");
    let got = linalg::minimum_norm(wide.view(), b.view());
    assert_eq!(words(got), "b must have shape [2]; got [3]");
    for (rows, columns) in [(0, 0), (0, 3), (3, 0)] {
        let empty = Array2::<f64>::zeros((rows, columns));
        let got = linalg::minimum_norm(empty.view(), Array1::zeros(rows).view());
        assert_eq!(got, Ok(Array1::zeros(columns)));
    }
}
