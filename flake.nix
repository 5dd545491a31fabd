{
  description = "Store-and-forward image analysis: an accepted image is never lost";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    crane.url = "github:ipetkov/crane";
  };

  outputs =
    {
      self,
      nixpkgs,
      crane,
    }:
    let
      inherit (nixpkgs) lib;

      linux = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      # Where only the client runs.
      darwin = [ "aarch64-darwin" ];
      on = systems: f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});

      packagesOf = pkgs: import ./nix/packages.nix { inherit pkgs crane; };
    in
    {
      packages =
        on linux (pkgs: (packagesOf pkgs).packages)
        // on darwin (pkgs: {
          inherit ((packagesOf pkgs).packages) client;
          default = (packagesOf pkgs).packages.client;
        });

      apps = on (linux ++ darwin) (
        pkgs:
        import ./nix/apps.nix {
          inherit pkgs;
          packages = self.packages.${pkgs.stdenv.hostPlatform.system};
        }
      );

      checks = on linux (
        pkgs:
        import ./nix/checks.nix {
          inherit pkgs;
          inherit (packagesOf pkgs) packages checks;
          module = self.nixosModules.default;
        }
      );

      devShells = on linux (pkgs: {
        default = import ./nix/shell.nix { inherit pkgs; };
      });

      formatter = on (linux ++ darwin) (pkgs: pkgs.nixfmt);

      overlays.default = final: _prev: { imgsys = (packagesOf final).packages.imgsys; };

      nixosModules.default =
        { pkgs, ... }:
        {
          imports = [ ./nixos-modules ];
          services.imgsys =
            let
              packages = self.packages.${pkgs.stdenv.hostPlatform.system};
            in
            {
              package = lib.mkDefault packages.imgsys;
              worker.model = lib.mkDefault packages.model-efficientnet-lite0;
            };
        };

      # One for each file of nix/examples.
      nixosConfigurations = import ./nix/configurations.nix {
        inherit nixpkgs;
        module = self.nixosModules.default;
      };
    };
}
