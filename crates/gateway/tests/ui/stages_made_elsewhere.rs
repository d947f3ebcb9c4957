//! The gateway's own files, with another `pipeline/mod.rs`: one that makes the stages' values itself.

#![expect(dead_code, unused_imports, reason = "nothing of it is used: it does not compile")]

include!("shared/gateway.rs");

mod pipeline {
    include!("shared/stages.rs");

    fn a_principal_of_ones_own(
        authenticated: Authenticated<()>,
        principal: tenancy::Principal,
    ) -> Authenticated<()> {
        Authenticated { principal, ..authenticated }
    }

    fn an_admission_of_ones_own(compiled: Box<Compiled>, attempt: Attempt) -> Admitted {
        Admitted { _made_here: (), compiled, attempt }
    }
}

fn main() {}
