//! What the process was told by variables.

/// Tells what a variable of the process's environment says; an empty one is taken for none.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + Sync + 'a;
