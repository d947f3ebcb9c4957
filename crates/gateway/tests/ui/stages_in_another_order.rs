//! The gateway's own files, with another `pipeline/mod.rs`: one that takes the stages in the wrong
//! order, changes a checked value, and answers twice.

#![expect(dead_code, unused_imports, reason = "nothing of it is used: it does not compile")]

include!("shared/gateway.rs");

mod pipeline {
    include!("shared/stages.rs");

    fn a_tenant_before_a_credential(arrived: ArrivedCall, trail: &mut Trail) {
        drop(arrived.resolve_tenant(trail));
    }

    async fn a_body_before_its_session(resolved: ResolvedCall, trail: &mut Trail) {
        drop(resolved.compile_context(trail).await);
    }

    async fn money_before_the_context(session: Session, trail: &mut Trail) {
        drop(session.admit(trail).await);
    }

    async fn a_call_before_its_money(compiled: Box<Compiled>) {
        drop(compiled.dispatch().await);
    }

    async fn an_answer_before_its_call(admitted: Admitted, trail: &mut Trail) {
        drop(admitted.meter(trail).await);
    }

    fn a_target_that_was_not_checked(mut compiled: Box<Compiled>) -> Box<Compiled> {
        compiled.way.advance();
        compiled
    }

    fn two_answers(dispatched: &Dispatched) -> Dispatched {
        dispatched.clone()
    }
}

fn main() {}
