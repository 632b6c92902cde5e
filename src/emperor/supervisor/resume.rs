//! The vassals in an upgrade: saved for the next program, and taken over by it.

use std::rc::Rc;
use std::time::Instant;

use super::supervisor::Supervisor;
use crate::emperor::core::instance::Instance;
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::core::saved::SavedVassal;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::kept_sockets::Kept;
use crate::emperor::instance::process::Process;
use crate::log_of;

impl Supervisor {
    /// The vassals in the form for the next program.
    pub fn save(&self) -> Vec<SavedVassal<&Vassal>> {
        let processes = |file: &Rc<VassalFile>, vassal: &Vassal| {
            let id = |instance: &Instance| InstanceId::new(file, instance.number());
            let save = |instance| self.handles.process(&id(instance)).map(Process::save);
            vassal.instances().iter().map(save).collect()
        };
        let save = |(file, vassal)| SavedVassal {
            file: Rc::clone(file),
            vassal,
            processes: processes(file, vassal),
            sockets: self.handles.kept(file).map(Kept::save).unwrap_or_default(),
        };
        self.registry.vassals().map(save).collect()
    }

    /// Kills the readers that may hang, before an exec.
    pub fn kill_hanging(&self) {
        self.readers.kill_hanging();
    }

    /// Takes over the vassals of the program before the upgrade.
    pub fn take_over(&mut self, saved: Vec<SavedVassal>, now: Instant) {
        for SavedVassal { file, vassal, processes, sockets } in saved {
            // In any case, so that no socket stays open.
            let kept = Kept::resume(sockets);
            let mut is_complete = true;
            for (instance, saved) in vassal.instances().iter().zip(processes) {
                let (Some(facts), Some(saved)) = (instance.process(), saved) else { continue };
                let id = InstanceId::new(&file, instance.number());
                let process =
                    Process::resume(facts, &saved, self.spawner.removals()).and_then(|mut process| {
                        process.ids = self.spawner.share_of(&file, process.pid);
                        self.handles.add_process(&id, process)
                    });
                if let Err(error) = process {
                    log_of!(file, "{error}: starting it anew");
                    is_complete = false;
                }
            }
            if !is_complete {
                // The links of the others are closed with it, so all its instances end. The next scan finds
                // its file as a new one.
                self.handles.remove(&file);
                continue;
            }
            self.handles.with_kept(&file, |held| *held = kept);
            for instance in vassal.instances() {
                self.handles.note_fuse(&InstanceId::new(&file, instance.number()), &self.fusectl);
            }
            self.registry.take_over(&file, vassal, now);
        }
        self.run_effects(now);
    }

    /// After a scan: ends vassals that were taken over and whose files are `given_up`, which returns the
    /// reason. Returns whether there are others whose files no scan has found yet.
    pub fn drop_unclaimed(
        &mut self,
        given_up: impl Fn(&VassalFile) -> Option<&'static str>,
        now: Instant,
    ) -> bool {
        let unclaimed = self.registry.vassals().filter(|(_, vassal)| vassal.is_unclaimed());
        let unclaimed: Vec<_> = unclaimed.map(|(file, _)| Rc::clone(file)).collect();
        let mut are_left = false;
        for file in unclaimed {
            match given_up(&file) {
                Some(why) => self.removed(&file, why, now),
                None => are_left = true,
            }
        }
        are_left
    }
}
