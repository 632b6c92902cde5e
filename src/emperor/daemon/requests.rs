//! Answers to the questions of clients.

use std::time::Instant;

use super::emperor::Emperor;
use super::upgrade_flow;
use crate::emperor::api::control::{self, Command};
use crate::emperor::api::server::{Question, Service};
use crate::emperor::api::{metrics, render, stats};
use crate::log::printable;

/// Takes in questions, and answers them.
pub(super) fn answer(emperor: &mut Emperor, now: Instant) {
    // With thousands of vassals a page takes milliseconds, and every process that can reach the socket may
    // ask for it. Clients that ask in the same turn get the same page.
    let mut page: Option<(Service, Vec<u8>, Vec<u8>)> = None;
    for question in emperor.server.turn(now) {
        let text = match question.service {
            Service::Control => answer_command(emperor, &question, now),
            Service::Lock => None,
            service @ (Service::Stats | Service::Metrics) => {
                let known = page.take().filter(|(of, asked, _)| (*of, asked) == (service, &question.text));
                let text = known.map_or_else(|| page_for(emperor, &question, now), |(.., text)| text);
                page = Some((service, question.text, text.clone()));
                Some(text)
            }
        };
        if let Some(text) = text {
            emperor.server.answer(question.client, text, now);
        }
    }
}

/// The page of stats or metrics.
fn page_for(emperor: &Emperor, question: &Question, now: Instant) -> Vec<u8> {
    let about = &emperor.about;
    let statuses = emperor.supervisor.registry().statuses(now);
    match question.service {
        Service::Metrics => {
            metrics::answer(&question.text, &statuses, now.saturating_duration_since(about.began))
        }
        _ => stats::json(&about.sources, about.tyrant, &statuses, now).into_bytes(),
    }
}

/// The answer to a command; `None` if it comes later.
fn answer_command(emperor: &mut Emperor, question: &Question, now: Instant) -> Option<Vec<u8>> {
    let told = match Command::read(&question.text) {
        Some(Command::Status { json, of }) => {
            emperor.supervisor.ask_for_mountpoints(of);
            let uptime = now.saturating_duration_since(emperor.about.began);
            let stale = emperor.upgrades.refused();
            let registry = emperor.supervisor.registry();
            let held_back = registry.held_back();
            let silent = emperor.discovery.silent();
            let cut_off = emperor.supervisor.cut_off();
            let (limits, instances) = (&emperor.limits, emperor.supervisor.processes());
            registry.statuses_of(of, now).map_err(printable).map(|vassals| match json {
                true => {
                    let notes = [&*held_back, &silent, &cut_off];
                    render::json(&vassals, uptime, stale, notes, (instances, limits.most, &limits.what))
                }
                false if of.is_empty() => {
                    render::table(&vassals, stale) + &held_back + &silent + &cut_off + &limits.note(instances)
                }
                false => render::table(&vassals, None),
            })
        }
        None => Err("this emperor does not know that command".to_owned()),
        Some(_) if emperor.stopping.is_some() => Err("the emperor is stopping".to_owned()),
        Some(Command::Roll) => Ok(emperor.supervisor.roll_all(now)),
        Some(Command::Order(order, name)) => {
            emperor.supervisor.handle_order(order, name, now).map(printable).map_err(printable)
        }
        Some(Command::Outcome(order, name)) => {
            let (status, text) = emperor.supervisor.registry().outcome(order, name, now);
            return Some(control::outcome(status, printable(text)));
        }
        Some(Command::Upgrade) => match upgrade_flow::begin(emperor, Some(question.client), now) {
            Ok(()) => return None,
            Err(why) => Err(why),
        },
    };
    Some(control::answer(told))
}
