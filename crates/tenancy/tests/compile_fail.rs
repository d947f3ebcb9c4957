//! Misuse that must not compile, each with the compiler's own words beside it (invariant 2).

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
