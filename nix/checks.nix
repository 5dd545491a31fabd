# `nix flake check`: the code, the Nix files, the options, and every scenario of e2e/.
{
  pkgs,
  packages,
  checks,
  module,
}:
let
  inherit (pkgs) lib;

  nixFiles = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.fileFilter (file: file.hasExt "nix") ../.;
  };

  # The options alone, without NixOS around them. An option without a description fails.
  options =
    let
      evaluated = lib.evalModules {
        modules = [
          ../nixos-modules/options.nix
          { _module.args = { inherit pkgs; }; }
        ];
      };
    in
    (pkgs.nixosOptionsDoc { options = { inherit (evaluated.options) services; }; }).optionsCommonMark;
in
checks
// {
  inherit (packages) imgsys client;

  nixfmt = pkgs.runCommand "nixfmt" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
    find ${nixFiles} -name '*.nix' -exec nixfmt --check {} +
    touch $out
  '';

  deadnix = pkgs.runCommand "deadnix" { nativeBuildInputs = [ pkgs.deadnix ]; } ''
    deadnix --fail ${nixFiles}
    touch $out
  '';

  units = pkgs.runCommand "units" { nativeBuildInputs = [ pkgs.systemd ]; } ''
    for unit in ${packages.imgsys}/lib/systemd/system/*.service; do
      systemd-analyze security --offline=true --threshold=15 "$unit"
    done
    touch $out
  '';

  inherit options;
}
// import ../e2e { inherit pkgs module; }
