# The machines of nix/examples, a file each.
{ nixpkgs, module }:
let
  inherit (nixpkgs) lib;
  machine =
    file:
    lib.nixosSystem {
      modules = [
        module
        ./examples/${file}
        {
          nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
          networking.hostName = lib.mkDefault (lib.removeSuffix ".nix" file);
          # A machine of yours says here where its disks are.
          boot.loader.grub.enable = false;
          fileSystems."/" = {
            device = "/dev/disk/by-label/nixos";
            fsType = "ext4";
          };
          system.stateVersion = "26.05";
        }
      ];
    };
in
lib.mapAttrs' (file: _: lib.nameValuePair (lib.removeSuffix ".nix" file) (machine file)) (
  lib.filterAttrs (name: _: lib.hasSuffix ".nix" name) (builtins.readDir ./examples)
)
