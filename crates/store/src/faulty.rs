/// A store that fails as it is told to.
pub struct Faulty;
