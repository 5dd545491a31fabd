# Evaluates the flake without nixpkgs.
#
# `outputs` is the names and places of all that the flake gives; it needs no lib but the few
# functions beside this file. `machines` is what the modules make of the examples and of the
# scenarios' machines; it needs nixpkgs' lib: --arg lib 'import NIXPKGS/lib'.
{
  lib ? import ./lib.nix,
}:
let
  stubs = import ./stubs.nix { inherit lib; };

  outputs = (import ../../flake.nix).outputs {
    inherit (stubs) nixpkgs crane;
    self = outputs;
  };

  linux = outputs.checks.x86_64-linux;
  places = lib.mapAttrs (_: lib.mapAttrs (_: built: built.outPath or built.program));

  # What of a machine's configuration is ours to decide.
  summary = evaluated: {
    failed = map (assertion: assertion.message) (
      lib.filter (assertion: !assertion.assertion) evaluated.config.assertions
    );
    inherit (evaluated.config.services.imgsys) settings;
    services = lib.mapAttrs (_: service: {
      inherit (service)
        after
        environment
        serviceConfig
        wantedBy
        ;
    }) evaluated.config.systemd.services;
    ports = evaluated.config.networking.firewall.allowedTCPPorts;
    redis = evaluated.config.services.redis.servers;
  };

  nodes =
    test:
    lib.mapAttrs (
      _: node:
      summary (
        stubs.nixpkgs.lib.nixosSystem {
          modules = [
            node
            test.defaults
          ];
        }
      )
    ) test.nodes;
in
{
  outputs = {
    apps = places outputs.apps;
    checks = places outputs.checks;
    packages = places outputs.packages;
    shells = places outputs.devShells;
    formatter = lib.attrNames outputs.formatter;
    configurations = lib.attrNames outputs.nixosConfigurations;
    scripts = lib.mapAttrs (_: check: check.arguments.test.testScript) (
      lib.filterAttrs (name: _: lib.hasPrefix "e2e-" name) linux
    );
  };

  machines = {
    options = map (option: option.name) linux.options.arguments.options;
    examples = lib.mapAttrs (_: summary) outputs.nixosConfigurations;
    scenarios = lib.mapAttrs (_: check: nodes check.arguments.test) (
      lib.filterAttrs (name: _: lib.hasPrefix "e2e-" name) linux
    );
  };
}
