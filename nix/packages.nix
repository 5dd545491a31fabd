# What is built: the programs, their documentation and images for containers; and what checks them,
# because both stand on the same compiled dependencies.
{ pkgs, crane }:
let
  inherit (pkgs) lib;
  craneLib = crane.mkLib pkgs;
  inherit (lib.importTOML ../Cargo.toml) workspace;

  sources =
    files:
    lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions (
        [
          ../Cargo.lock
          ../Cargo.toml
          ../crates
          ../sql
        ]
        ++ files
      );
    };

  common = {
    src = sources [
      ../Makefile
      ../systemd
    ];
    pname = "imgsys";
    inherit (workspace.package) version;
    strictDeps = true;
    meta = {
      inherit (workspace.package) description;
      license = with lib.licenses; [
        mit
        asl20
      ];
      platforms = lib.platforms.linux;
    };
  };

  cargoArtifacts = craneLib.buildDepsOnly common;

  imgsys = craneLib.buildPackage (
    common
    // {
      inherit cargoArtifacts;
      # They are a check of their own, with Redis and PostgreSQL.
      doCheck = false;
      # Not among the programs that are installed.
      postBuild = ''
        cargoWithProfile build --locked --workspace --example cli-docs
        "''${CARGO_TARGET_DIR:-target}"/release/examples/cli-docs doc-cli
      '';
      postInstall = ''
        make install-units install-cli-docs PREFIX=$out CLI_DOCS=doc-cli
        # What breaks and measures the system is no part of it.
        rm $out/bin/imgsys-bench $out/bin/imgsys-faults $out/bin/imgsys-poisoned-worker
      '';
      meta = common.meta // {
        mainProgram = "imgsys";
      };
    }
  );

  # One program, without the others in its closure.
  only =
    program:
    pkgs.runCommand "${program}-${common.version}"
      {
        meta = common.meta // {
          mainProgram = program;
        };
      }
      ''
        install -D --target-directory=$out/bin ${imgsys}/bin/${program}
        cd ${imgsys}/share
        for file in */*/{${program},_${program},${program}.fish} man/man1/${program}{,-*}.1*; do
          if [ -e "$file" ]; then
            install -D --mode=644 "$file" "$out/share/$file"
          fi
        done
      '';

  # The client alone, which is all that there is for other systems.
  client = craneLib.buildPackage (
    common
    // {
      pname = "imgsys-client";
      cargoExtraArgs = "--locked --package imgsys-client";
      doCheck = false;
      meta = common.meta // {
        mainProgram = "imgsys";
        platforms = lib.platforms.unix;
      };
    }
  );

  # It starts the programs beside it, and Redis and PostgreSQL from its path.
  local =
    pkgs.runCommand "imgsys-local-${common.version}"
      {
        nativeBuildInputs = [ pkgs.makeWrapper ];
        meta = common.meta // {
          mainProgram = "imgsys-local";
        };
      }
      ''
        mkdir -p $out/bin
        cp ${imgsys}/bin/imgsys* $out/bin/
        wrapProgram $out/bin/imgsys-local --prefix PATH : ${
          lib.makeBinPath [
            pkgs.redis
            pkgs.postgresql
            pkgs.util-linux
          ]
        }
      '';

  docs = craneLib.cargoDoc (
    common
    // {
      inherit cargoArtifacts;
      env.RUSTDOCFLAGS = "--deny warnings";
      cargoDocExtraArgs = "--workspace --no-deps";
    }
  );

  container =
    program:
    pkgs.dockerTools.buildLayeredImage {
      name = program;
      tag = common.version;
      contents = [ (only program) ];
      config.Entrypoint = [ "/bin/${program}" ];
    };

  tested = common // {
    inherit cargoArtifacts;
    src = sources [
      ../.config
      ../Makefile
      ../clippy.toml
      ../docs
      ../examples
      ../samples
    ];
  };
in
{
  packages = {
    inherit
      client
      docs
      imgsys
      local
      ;
    default = imgsys;
    model-efficientnet-lite0 = import ./model.nix { inherit pkgs; };
    server = only "imgsys-server";
    worker = only "imgsys-worker";
    persister = only "imgsys-persister";
    container-server = container "imgsys-server";
    container-worker = container "imgsys-worker";
    container-persister = container "imgsys-persister";
  };

  checks = {
    clippy = craneLib.cargoClippy (
      tested // { cargoClippyExtraArgs = "--workspace --all-targets -- --deny warnings"; }
    );
    fmt = craneLib.cargoFmt { inherit (tested) src pname version; };
    doc = docs;
    nextest = craneLib.cargoNextest (
      tested
      // {
        cargoExtraArgs = "--locked --workspace";
        nativeCheckInputs = [
          pkgs.redis
          pkgs.postgresql
          pkgs.util-linux
        ];
        # Tests start the programs beside them.
        preCheck = "cargoWithProfile build --locked --workspace --bins";
        NEXTEST_PROFILE = "ci";
      }
    );
  }
  // lib.optionalAttrs (lib.pathExists ../deny.toml) {
    deny = craneLib.cargoDeny (common // { src = sources [ ../deny.toml ]; });
  };
}
