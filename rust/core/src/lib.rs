//! Linear algebra of empirical asset pricing, without Python.

mod decompose;
pub mod digest;
mod error;
mod gram;
pub mod krylov;
pub mod linalg;
pub mod moments;
pub mod pca;
pub mod pool;
mod real;
pub mod rp_pca;
pub mod shape;
pub mod simd;
mod stream;
mod vector;

pub use error::{CoreError, Result};
pub use real::{AnyView, Real};
