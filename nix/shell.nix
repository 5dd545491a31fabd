# All that it takes to work on imgsys: `nix develop`.
{ pkgs }:
pkgs.mkShell {
  packages = with pkgs; [
    # Build and test
    cargo
    cargo-nextest
    clippy
    gnumake
    rustc
    rustfmt
    rust-analyzer

    # What it runs with
    postgresql
    redis
    (python3.withPackages (python: [
      python.celery
      python.redis
    ]))

    # Checks
    cargo-deny
    deadnix
    mypy
    nixfmt
    python3Packages.pyflakes
    shellcheck
    valgrind
  ];
}
