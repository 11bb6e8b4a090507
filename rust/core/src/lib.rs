//! Linear algebra of empirical asset pricing, without Python.

pub mod digest;
mod error;
mod gram;
pub mod linalg;
pub mod moments;
pub mod pool;
mod real;
pub mod shape;
pub mod simd;

pub use error::{CoreError, Result};
pub use real::{AnyView, Real};
