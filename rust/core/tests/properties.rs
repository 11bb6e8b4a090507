//! Laws of the kernels, against slow obvious twins.
#![allow(missing_docs)]

mod ipca;
mod moments;
