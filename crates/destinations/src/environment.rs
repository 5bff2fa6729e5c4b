//! What the process was told by variables.

/// Tells what variables say, credentials among them.
#[derive(Clone, Copy)]
pub struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl<'a> Environment<'a> {
    /// What `read` tells of each variable.
    pub fn new(read: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self(read)
    }

    /// That of this process.
    pub fn of_process() -> Environment<'static> {
        Environment(&|variable| std::env::var(variable).ok())
    }

    /// What a variable says; an empty one says nothing.
    pub fn say(self, variable: &str) -> Option<String> {
        (self.0)(variable).filter(|value| !value.is_empty())
    }
}
