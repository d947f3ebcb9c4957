//! Operators act for a tenant only once it is on record; the platform's own work needs its keys.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use crate::world::{self, ACME, World, now};
use base::TenantId;
use tenancy::{
    ActForAudit, ActForError, AuditUnavailable, Caller, OperatorPrincipal, Permission,
    PresentedCredential, ServiceIdentity, ServicePurpose, TenantKeys, act_for,
};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// Remembers what was recorded, or fails.
#[derive(Default)]
struct Audit {
    records: RefCell<Vec<(String, TenantId, String)>>,
    is_broken: bool,
}

impl ActForAudit for Audit {
    fn record(
        &self,
        operator: &str,
        tenant: TenantId,
        reason: &str,
    ) -> Result<(), AuditUnavailable> {
        if self.is_broken {
            return Err(AuditUnavailable {
                source: "the disk is full".into(),
            });
        }
        let record = (operator.to_owned(), tenant, reason.to_owned());
        self.records.borrow_mut().push(record);
        Ok(())
    }
}

fn operator(world: &World) -> OperatorPrincipal {
    let header = world::bearer(world.operator_key.expose());
    let presented = PresentedCredential::from_headers(Some(&header), None).unwrap();
    match world.authority().identify(&presented, PEER, now()).unwrap() {
        Caller::Operator(operator) => operator,
        Caller::Tenant(_) => panic!("it is the operator's key"),
    }
}

fn keys(world: &World) -> Arc<TenantKeys> {
    Arc::clone(&world.snapshot.tenant(ACME).unwrap().unlocked)
}

#[test]
fn an_act_is_on_record_before_there_is_a_scope() {
    let world = World::new();
    let audit = Audit::default();
    let scope = act_for(&operator(&world), keys(&world), " ticket 42 ", &audit).unwrap();
    assert_eq!(scope.tenant(), ACME);
    assert_eq!(scope.grant().operator(), Some(&world::name("root")));
    assert!(!scope.grant().allows(Permission::CallModels));
    assert!(!scope.grant().may_call(&"a".parse().unwrap()));
    let expected = ("root".to_owned(), ACME, "ticket 42".to_owned());
    assert_eq!(*audit.records.borrow(), [expected]);
}

#[test]
fn without_a_record_there_is_no_scope() {
    let world = World::new();
    let audit = Audit {
        is_broken: true,
        ..Audit::default()
    };
    let refused = act_for(&operator(&world), keys(&world), "ticket 42", &audit).unwrap_err();
    assert!(matches!(refused, ActForError::Unrecorded(_)));
}

#[test]
fn without_a_readable_reason_there_is_no_scope() {
    let world = World::new();
    let audit = Audit::default();
    let long = "a".repeat(501);
    for reason in ["", "   ", "a\nb", "a\u{0}b", &long] {
        let refused = act_for(&operator(&world), keys(&world), reason, &audit).unwrap_err();
        assert!(matches!(refused, ActForError::Reason), "{reason:?}");
    }
    assert!(audit.records.borrow().is_empty());
}

#[test]
fn an_auditor_does_not_act_for_tenants() {
    let mut world = World::new();
    world.make_operator_an_auditor();
    let audit = Audit::default();
    let refused = act_for(&operator(&world), keys(&world), "ticket 42", &audit).unwrap_err();
    assert!(matches!(refused, ActForError::NotAllowed));
    assert!(audit.records.borrow().is_empty());
}

#[test]
fn the_platform_works_inside_the_tenant_whose_keys_it_holds() {
    let world = World::new();
    let service = ServiceIdentity::of(&world.platform);
    let scope = service.scope(keys(&world), ServicePurpose::Export);
    assert_eq!(scope.tenant(), ACME);
    assert_eq!(scope.grant().service(), Some(ServicePurpose::Export));
}
