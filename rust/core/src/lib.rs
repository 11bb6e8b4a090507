//! Linear algebra of empirical asset pricing, without Python.

mod chebyshev;
mod cholesky;
mod decompose;
pub mod digest;
mod dispatch;
mod error;
mod gram;
pub mod interrupt;
pub mod ipca;
pub mod krylov;
pub mod linalg;
pub mod managed;
pub mod memory;
pub mod moments;
pub mod pca;
pub mod pool;
pub mod ranks;
mod real;
pub mod rolling;
mod rows;
pub mod rp_pca;
pub mod shape;
pub mod simd;
mod stream;
mod vector;
pub mod weights;

pub use error::{CoreError, Result};
pub use real::{AnyView, Real};
