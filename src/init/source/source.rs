//! The inputs of the configuration and the plans that came from them.

use std::rc::Rc;

use crate::config::Input;
use crate::config::plan::VassalPlan;
use crate::init::source::careful_world::Start;

/// The plans of the vassal, and the inputs that they were read from.
pub struct Source {
    /// The plan of the running app.
    pub(in crate::init) plan: Rc<VassalPlan>,
    /// The plan of a fresh start, which a new file is compared with.
    pub(in crate::init) fresh: Rc<VassalPlan>,
    /// The files, texts and options to read again for a reload.
    pub(in crate::init) inputs: Vec<Input>,
    /// Facts about the machine from the time when the inputs were first read.
    pub(in crate::init) start: Start,
}

impl Source {
    /// Takes over the plan that was read after the change of identity.
    pub fn take_on(&mut self, plan: VassalPlan) {
        self.plan = Rc::new(plan);
        self.fresh = Rc::clone(&self.plan);
    }

    /// The app runs by this plan from now on.
    pub fn run_by(&mut self, plan: Rc<VassalPlan>) {
        self.plan = plan;
    }

    /// What was read again for a reload: the inputs, and the plan of a fresh start.
    pub fn read_again(&mut self, inputs: Vec<Input>, fresh: Rc<VassalPlan>) {
        (self.inputs, self.fresh) = (inputs, fresh);
    }
}
