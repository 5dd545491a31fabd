# `nix run .#client -- send cat.jpg` and the like.
{ pkgs, packages }:
let
  inherit (pkgs) lib;
  app = package: {
    type = "app";
    program = lib.getExe package;
    meta.description = package.meta.description;
  };
  programs = lib.filterAttrs (
    name: _:
    lib.elem name [
      "client"
      "local"
      "persister"
      "server"
      "worker"
    ]
  ) packages;
in
lib.mapAttrs (_: app) programs
// {
  default = app packages.client;
}
// lib.optionalAttrs (packages ? local) {
  # All of it on this machine, with the samples of this checkout.
  demo = app packages.local // {
    program = toString (
      pkgs.writeShellScript "imgsys-demo" "exec ${lib.getExe packages.local} demo ${../samples}"
    );
  };
}
