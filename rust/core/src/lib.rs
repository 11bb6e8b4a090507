//! Linear algebra of empirical asset pricing, without Python.

mod error;
pub mod linalg;
pub mod pool;
pub mod shape;

pub use error::{CoreError, Result};
