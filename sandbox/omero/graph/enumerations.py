"""The values of the server's enumerations, as a fresh server has them."""

#: Bits per pixel, by PixelsType.
PIXELS_TYPES = {
    "bit": 1,
    "int8": 8,
    "int16": 16,
    "int32": 32,
    "uint8": 8,
    "uint16": 16,
    "uint32": 32,
    "float": 32,
    "double": 64,
    "complex": 64,
    "double-complex": 128,
}

#: Values by class, separated by blanks.
VALUES = {
    "AcquisitionMode": "WideField LaserScanningConfocalMicroscopy SpinningDiskConfocal SlitScanConfocal "
    "MultiPhotonMicroscopy StructuredIllumination SingleMoleculeImaging TotalInternalReflection "
    "FluorescenceLifetime SpectralImaging FluorescenceCorrelationSpectroscopy "
    "NearFieldScanningOpticalMicroscopy SecondHarmonicGenerationImaging PALM STORM STED TIRF FSM LCM "
    "BrightField SweptFieldConfocal SPIM Other Unknown",
    "AdminPrivilege": "Chgrp Chown DeleteFile DeleteManagedRepo DeleteOwned DeleteScriptRepo ModifyGroup "
    "ModifyGroupMembership ModifyUser ReadSession Sudo WriteFile WriteManagedRepo WriteOwned WriteScriptRepo",
    "ArcType": "Hg Xe HgXe Other Unknown",
    "Binning": "1x1 2x2 4x4 8x8 Other",
    "ChecksumAlgorithm": "Adler-32 CRC-32 MD5-128 Murmur3-32 Murmur3-128 SHA1-160 File-Size-64",
    "ContrastMethod": "Brightfield Phase DIC HoffmanModulation ObliqueIllumination PolarizedLight Darkfield "
    "Fluorescence Other Unknown",
    "Correction": "UV PlanApo PlanFluor SuperFluor VioletCorrected Achro Achromat Fluor Fl Fluar Neofluar Fluotar "
    "Apo PlanNeofluar Other Unknown",
    "DetectorType": "CCD IntensifiedCCD AnalogVideo PMT Photodiode Spectroscopy LifetimeImaging "
    "CorrelationSpectroscopy FTIR EMCCD APD CMOS EBCCD Other Unknown",
    "DimensionOrder": "XYZCT XYZTC XYCTZ XYCZT XYTCZ XYTZC",
    "EventType": "Bootstrap Import Internal Shoola User Task Test Processing FullText Sessions",
    "ExperimentType": "FP FRET TimeLapse FourDPlus Screen Immunocytochemistry Immunofluorescence FISH "
    "Electrophysiology IonImaging Colocalization PGIDocumentation FluorescenceLifetime SpectralImaging "
    "Photobleaching Other Unknown",
    "Family": "linear polynomial exponential logarithmic",
    "FilamentType": "Incandescent Halogen Other Unknown",
    "FilterType": "LongPass ShortPass BandPass MultiPass Dichroic NeutralDensity Tuneable Other Unknown",
    "Illumination": "Transmitted Epifluorescence Oblique NonLinear Other Unknown",
    "Immersion": "Oil Water WaterDipping Air Multi Glycerol Other Unknown",
    "JobStatus": "Submitted Resubmitted Queued Requeued Running Error Waiting Finished Cancelled",
    "LaserMedium": "Cu Ag ArFl ArCl KrFl KrCl XeFl XeCl XeBr N Ar Kr Xe HeNe HeCd CO CO2 H2O HFl NdGlass NdYAG "
    "ErGlass ErYAG HoYLF HoYAG Ruby TiSapphire Alexandrite Rhodamine6G CoumarinC30 GaAs GaAlAs EMinus Other Unknown",
    "LaserType": "Excimer Gas MetalVapor SolidState Dye Semiconductor FreeElectron Other Unknown",
    "Medium": "Air Oil Water Glycerol Other Unknown",
    "MicrobeamManipulationType": "FRAP Photoablation Photoactivation Uncaging OpticalTrapping FLIP InverseFRAP "
    "FLIM Other Unknown",
    "MicroscopeType": "Upright Inverted Dissection Electrophysiology Other Unknown",
    "PhotometricInterpretation": "RGB ARGB CMYK HSV Monochrome ColorMap",
    "ProjectionAxis": "Z T ModuloT",
    "ProjectionType": "maximum mean sum",
    "Pulse": "CW Single QSwitched Repetitive ModeLocked Other Unknown",
    "RenderingModel": "rgb greyscale",
}

#: File formats; each has a companion of its own on a real server.
FORMATS = (
    "AVI Aim Alicona Amira Analyze Aperio Apng BDV BMP BDSlide Bio-Rad BioRadGel BrukerMRI Burleigh CV7000 Canon "
    "CellH5 CellVoyager CellWorX CellomicsChannel Deltavision Dicom Digital Ecat7 EPS Fake Fits FlowSight Fluoview "
    "FilePattern Flex FEI GIF Gatan GatanDM2 Hamamatsu HIS Hitachi I2I ICS IMAGIC IM3 IMOD IPLab IPW ImageXpress "
    "Imaris InCell Inveon Ionpath Iris JDCE JPEG JPEG2000 JPK JPX KLB KhorosXV KodakBip LEO LIF LIM LOF Lambert "
    "LiFlim LaVision Leica MIAS MINC MNG MRC Mediadata Metamorph MetaXpress Micromanager MicroCT Mikroscan Molecular "
    "ND2 NAF NDPI NDPIS NIfTI NRRD Nikon OBF OIR OMETiff OMEXML Openlab Operetta Oxford PCI PCORAW PCX PDS PGM PNG "
    "PQbin PSD PerkinElmer Photoshop Pict PovRay Prairie Pyramid Quesant QT RHK Seiko SBIG SDT SEQ SIF SIS SM-Camera "
    "SPC SPE SVS SimplePCI Slidebook Spider StratecPcs TCS TargaTrueVision Text Tiff TissueFAXS Tillvision Topometrix "
    "Trestle Ubm Unisoku VG-SAM VSI VWS Varian Veeco Ventana Visitech Volocity WATOP XLEF Zeiss ZeissCZI ZeissLSM "
    "ZeissTIFF ZeissXRM ZeissZVI"
).split()
