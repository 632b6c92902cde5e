//! The inputs of the configuration and the plans that came from them.

use std::rc::Rc;

use crate::config::Input;
use crate::config::plan::VassalPlan;
use crate::init::source::careful_world::Start;

/// What the vassal lives by, and where that was written.
pub struct Source {
    /// The plan of the running app.
    pub(in crate::init) plan: Rc<VassalPlan>,
    /// The plan of a fresh start, which a new file is compared with.
    pub(in crate::init) fresh: Rc<VassalPlan>,
    /// Where that was written, for a reload.
    pub(in crate::init) inputs: Vec<Input>,
    /// What the machine told when they were read first.
    pub(in crate::init) start: Start,
}
