//! Misuse of the pipeline that must not compile, each with the compiler's own words beside it
//! (invariant 2). What concerns the scope alone is in `tenancy`.

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
