//! The page of stats or metrics that was asked for last.

use std::time::{Duration, Instant};

use super::server::Question;
use crate::emperor::core::text::later;

/// A page is kept for so many times as long as it took to make: with thousands of vassals that is
/// milliseconds, and every process that can reach the socket may ask for one.
const KEPT: u32 = 10;

/// A page, with the question that it answers.
pub struct Page {
    question: Question,
    text: Vec<u8>,
    until: Instant,
}

impl Page {
    /// A page that was begun then, and took so long.
    pub fn new(question: Question, text: Vec<u8>, began: Instant, took: Duration) -> Self {
        Self { question, text, until: later(began, took * KEPT) }
    }

    /// The page, if it answers this question, too.
    pub fn answer(&self, question: &Question, now: Instant) -> Option<Vec<u8>> {
        let is_it = self.question.service == question.service && self.question.text == question.text;
        (is_it && self.until > now).then(|| self.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Service;
    use super::*;

    #[test]
    fn a_page_answers_the_same_question_for_ten_times_as_long_as_it_took() {
        let question = |service, text: &[u8]| Question { client: 1, service, text: text.to_vec() };
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let page = Page::new(question(Service::Metrics, b"GET"), b"page".to_vec(), now, ms(3));
        let answer = |service, text, after| page.answer(&question(service, text), now + ms(after));
        assert_eq!(answer(Service::Metrics, b"GET", 29), Some(b"page".to_vec()));
        assert_eq!(answer(Service::Metrics, b"GET", 30), None);
        assert_eq!(answer(Service::Metrics, b"HEAD", 5), None);
        assert_eq!(answer(Service::Stats, b"GET", 5), None);
    }
}
