//! Protected columns, and how gently their sources are treated.

pub(crate) mod bind_type;
pub(crate) mod bind_value;
pub(crate) mod column;
pub(crate) mod limits;
pub(crate) mod pace;
pub(crate) mod url;
