# A test of each scenario, on QEMU machines.
{ pkgs, module }:
let
  inherit (pkgs) lib;
  nodes = import ./nodes.nix;
  shared = builtins.readFile ./shared.py;

  # Every machine has these.
  defaults =
    { config, ... }:
    {
      imports = [ module ];
      environment.systemPackages = [ config.services.imgsys.package ];
      environment.etc = {
        "imgsys-e2e/samples".source = ../samples;
        "imgsys-e2e/sql".source = ../sql;
      };
      virtualisation.memorySize = 768;
    };

  # The machines that the first line of a scenario asks for.
  machinesOf =
    script:
    let
      first = lib.head (lib.splitString "\n" script);
    in
    lib.splitString " " (lib.removePrefix "# machines: " first);

  test =
    file:
    let
      script = builtins.readFile ./scenarios/${file};
    in
    pkgs.testers.runNixOSTest {
      name = "imgsys-${lib.removeSuffix ".py" file}";
      inherit defaults;
      nodes = lib.genAttrs (machinesOf script) (name: nodes.${name});
      testScript = shared + script;
      globalTimeout = 1200;
    };
in
lib.mapAttrs' (file: _: lib.nameValuePair "e2e-${lib.removeSuffix ".py" file}" (test file)) (
  lib.filterAttrs (name: _: lib.hasSuffix ".py" name) (builtins.readDir ./scenarios)
)
