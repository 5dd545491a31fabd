# Stand-ins for the parts of nixpkgs that the flake touches, as far as evaluating it needs them, so
# that it can be evaluated where there is nixpkgs' lib but not nixpkgs.
{ lib }:
let
  inherit (lib) mkOption types;

  derivation = name: arguments: {
    inherit name arguments;
    type = "derivation";
    meta = arguments.meta or { };
    outPath = "${builtins.storeDir}/00000000000000000000000000000000-${name}";
  };
  built = arguments: derivation arguments.pname arguments;

  anything = mkOption {
    type = types.anything;
    default = { };
  };
in
rec {
  pkgs = rec {
    inherit lib;
    stdenv = {
      hostPlatform.system = "x86_64-linux";
      buildPlatform.canExecute = _: true;
    };
    formats.toml = _: {
      type =
        let
          value =
            with types;
            nullOr (oneOf [
              bool
              int
              float
              str
              path
              (attrsOf value)
              (listOf value)
            ]);
        in
        value;
      generate = name: value: derivation name { inherit value; };
    };
    runCommand =
      name: arguments: script:
      derivation name (arguments // { inherit script; });
    fetchPypi = arguments: derivation arguments.pname arguments;
    mkShell = derivation "shell";
    writeShellScript = name: script: derivation name { inherit script; };
    nixosOptionsDoc =
      { options }:
      {
        optionsCommonMark = derivation "options" {
          options = lib.optionAttrSetToDocList options;
        };
      };
    testers.runNixOSTest = test: derivation test.name { inherit test; };
    dockerTools.buildLayeredImage = arguments: derivation arguments.name arguments;
    python3.withPackages = packages: derivation "python3" { packages = packages python3Packages; };
    python3Packages = lib.genAttrs [ "celery" "numpy" "onnx" "pillow" "pyflakes" "redis" ] (
      name: derivation name { }
    );
  }
  // lib.genAttrs [
    "cargo"
    "cargo-deny"
    "cargo-nextest"
    "clippy"
    "deadnix"
    "gnumake"
    "makeWrapper"
    "mypy"
    "nixfmt"
    "openssl"
    "postgresql"
    "redis"
    "rust-analyzer"
    "rustc"
    "rustfmt"
    "shellcheck"
    "systemd"
    "util-linux"
    "valgrind"
  ] (name: derivation name { });

  crane.mkLib =
    _:
    lib.genAttrs [
      "buildDepsOnly"
      "buildPackage"
      "cargoClippy"
      "cargoDeny"
      "cargoDoc"
      "cargoFmt"
      "cargoNextest"
    ] (_: built);

  # The options of NixOS that the modules set.
  nixos = {
    options = {
      assertions = mkOption { type = types.listOf types.attrs; };
      boot.loader.grub.enable = anything;
      environment = {
        etc = mkOption { type = types.attrsOf types.attrs; };
        systemPackages = mkOption { type = types.listOf types.raw; };
      };
      fileSystems = anything;
      networking = {
        hostName = anything;
        firewall.allowedTCPPorts = mkOption {
          type = types.listOf types.port;
          default = [ ];
        };
      };
      nixpkgs.hostPlatform = anything;
      services.postgresql = anything;
      services.redis.servers = mkOption {
        default = { };
        type = types.attrsOf (
          types.submodule (
            { name, ... }:
            {
              freeformType = types.attrsOf types.anything;
              options = {
                unixSocket = mkOption {
                  type = types.str;
                  default = "/run/redis-${name}/redis.sock";
                };
                group = mkOption {
                  type = types.str;
                  default = "redis-${name}";
                };
              };
            }
          )
        );
      };
      system.stateVersion = anything;
      systemd = {
        packages = mkOption { type = types.listOf types.raw; };
        tmpfiles.settings = anything;
        services = mkOption {
          default = { };
          type = types.attrsOf (
            types.submodule {
              options = {
                after = mkOption {
                  type = types.listOf types.str;
                  default = [ ];
                };
                environment = mkOption {
                  type = types.attrsOf types.str;
                  default = { };
                };
                wants = mkOption {
                  type = types.listOf types.str;
                  default = [ ];
                };
                restartTriggers = mkOption {
                  type = types.listOf types.raw;
                  default = [ ];
                };
                serviceConfig = mkOption {
                  type = types.attrsOf (
                    types.oneOf [
                      types.bool
                      types.str
                      (types.listOf types.str)
                    ]
                  );
                  default = { };
                };
                wantedBy = mkOption {
                  type = types.listOf types.str;
                  default = [ ];
                };
              };
            }
          );
        };
      };
      users = anything;
      virtualisation = anything;
    };
  };

  nixpkgs = {
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" "aarch64-darwin" ] (_: pkgs);
    lib = lib // {
      nixosSystem =
        { modules }:
        lib.evalModules {
          modules = modules ++ [
            nixos
            { _module.args = { inherit pkgs; }; }
          ];
        };
    };
  };
}
