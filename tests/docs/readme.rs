//! The README can be followed to the letter.

use super::walk;
use crate::common::sandboxed;

#[test]
fn the_readme_leads_from_nothing_to_a_vassal_that_gets_its_filesystem_back() {
    sandboxed(|sandbox| walk::follow(sandbox, "README.md"));
}
